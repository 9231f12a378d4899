import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from forecast.errors import ConfigError, DataError
from forecast.grid import BEVGrid
from forecast.model.baselines import Baseline, Components
from forecast.model.detecting import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.heads import RESIDUAL_SCALE
from forecast.model.mirrored import Mirrored
from forecast.model.spec import BASELINES
from forecast.rollout import StepModel, rollout, teacher_forced
from forecast.types import BEVSequence, StepForecast, map_tensors
from tests.sequences import TRAFFIC, forecaster, sequences
from tests.support import GRID, Mover

Model = StepModel[object, StepForecast]


def detecting(**changes: Any) -> Detecting:
    """Sees a large vehicle at every peak of its heatmap, so that some cells are somebody's."""
    model = forecaster(**changes)
    assert model.tracker is not None
    with torch.no_grad():
        model.tracker.classify.bias[0] = 6.0
        model.tracker.box[2].bias[2:4] = 1.5
    return Detecting(model)


# Every part that a specification can exchange.
VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"attention": "dense"},
    "fpn": {"mask_head": "fpn", "dim": 128, "heads": 8},
    "no interaction": {"interact": False},
    "no warp": {"warp": False},
    "position update": {"update_position": True},
}


def exchanged() -> Model:
    """A forecaster with every other part at once."""
    changes = {k: v for change in VARIANTS.values() for k, v in change.items()}
    return forecaster(**changes | {"interact": True})


MODELS: dict[str, Callable[[], Model]] = {
    "tracked": forecaster,
    "without memory": lambda: forecaster(memory=False),
    "other parts": exchanged,
    "mirrored": lambda: Mirrored(forecaster()),
    "detected": detecting,
    "components": lambda: Components(3),
    **{name: (lambda name=name: Baseline(name, 3)) for name in BASELINES},
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]()


def run(model: Model, batch: BEVSequence, horizon: int, history: int = 3) -> list[StepForecast]:
    with torch.inference_mode():
        return list(rollout(model, batch.crop(0, history), horizon))


def assert_same(a: StepForecast, b: StepForecast, atol: float = 0.0) -> None:
    for name in ("ids", "label", "instance", "semantic"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for name in ("pose", "existence", "occupancy", "flow"):
        torch.testing.assert_close(
            getattr(a, name), getattr(b, name), atol=atol, rtol=0, equal_nan=True
        )


def test_a_short_horizon_is_the_beginning_of_a_long_one(model: Model) -> None:
    batch = sequences(TRAFFIC)
    for short, long in zip(run(model, batch, 3), run(model, batch, 6), strict=False):
        assert_same(short, long)


def test_a_batch_forecasts_what_each_sequence_alone_would(model: Model) -> None:
    batch = sequences(TRAFFIC)
    together = run(model, batch, 4)[-1]
    for index in range(len(TRAFFIC)):
        alone = run(model, map_tensors(batch, lambda t, i=index: t[i : i + 1]), 4)[-1]
        slots = alone.ids.shape[1]
        part = StepForecast(
            lead=4,
            **{
                name: getattr(together, name)[index : index + 1, :slots]
                for name in ("ids", "label", "pose", "existence")
            },
            **{
                name: getattr(together, name)[index : index + 1]
                for name in ("instance", "semantic", "occupancy", "flow")
            },
        )
        assert (together.ids[index, slots:] == 0).all()
        assert_same(part, alone, atol=1e-4)


def test_nothing_of_the_future_is_read(model: Model) -> None:
    batch = sequences(TRAFFIC)

    def scramble(value: Tensor, axis: int) -> Tensor:
        changed = value.clone()
        changed.narrow(axis, 3, value.shape[axis] - 3).copy_(
            torch.randint_like(changed.narrow(axis, 3, value.shape[axis] - 3).float(), 3)
        )
        return changed

    assert batch.track_state is not None
    other = replace(
        batch,
        semantic=scramble(batch.semantic, 1),
        instance=scramble(batch.instance, 1),
        ego_pose=scramble(batch.ego_pose, 1),
        track_state=scramble(batch.track_state, 2),
    )
    for ours, theirs in zip(run(model, batch, 3), run(model, other, 3), strict=True):
        assert_same(ours, theirs)


def test_detected_input_reads_neither_ids_nor_tracks() -> None:
    model, batch = detecting(), sequences(TRAFFIC)
    blind = replace(
        batch, instance=torch.zeros_like(batch.instance), track_state=None, track_class=None
    )
    for ours, theirs in zip(run(model, batch, 2), run(model, blind, 2), strict=True):
        assert_same(ours, theirs)
    assert (run(model, batch, 1)[0].ids > 0).any()


def test_a_doubtful_track_stays_as_long_as_it_may_be_missed() -> None:
    past = sequences(TRAFFIC).crop(0, 3)
    with torch.inference_mode():
        impatient, patient = (
            int(detecting(stay=0.9999, miss_tolerance=frames).start(past).agents.ids.max())
            for frames in (0, 2)
        )
    assert 0 < patient < impatient  # whoever is given up is born again under another id


def test_a_state_saved_to_disk_goes_on_as_if_nothing_had_happened(model: Model) -> None:
    batch = sequences(TRAFFIC).crop(0, 3)
    with torch.inference_mode():
        state = model.start(batch)
        state, _ = model.step(state)
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        saved = torch.load(file, weights_only=False)
        assert_same(model.step(state)[1], model.step(saved)[1])


def test_a_step_does_not_change_the_state_it_is_given(model: Model) -> None:
    with torch.inference_mode():
        state = model.start(sequences(TRAFFIC).crop(0, 3))
        first = model.step(state)[1]
        assert_same(first, model.step(state)[1])


@pytest.mark.parametrize("with_boxes", [True, False])
@pytest.mark.parametrize("name", ["constant-velocity", "constant-turn"])
def test_an_agent_that_moves_one_cell_a_step_has_exact_centroids(
    name: str, with_boxes: bool
) -> None:
    batch = sequences([[Mover(0.25, 0.25, 0.0, speed=1.0, length=3.5, width=1.5)]])
    if not with_boxes:
        batch = replace(batch, track_state=None, track_class=None)
    for step in run(Baseline(name, 3), batch, 6):  # type: ignore[arg-type]
        rows, columns = (step.instance[0] == 1).nonzero(as_tuple=True)
        x, y = torch.as_tensor(GRID.x_m)[columns], torch.as_tensor(GRID.y_m)[rows]
        assert x.mean() == pytest.approx(0.25 + 0.5 * step.lead)
        assert y.mean() == pytest.approx(0.25)
        assert torch.equal(step.instance, batch.instance[:, 2 + step.lead])


def test_persistence_repeats_the_present_masks() -> None:
    batch = sequences(TRAFFIC)
    for data in (batch, replace(batch, track_state=None, track_class=None)):
        for step in run(Baseline("persistence", 3), data, 2):
            assert torch.equal(step.instance, batch.instance[:, 2])
            assert torch.equal(step.semantic, batch.semantic[:, 2])
            assert step.flow.abs().max() < 1e-5  # metres; there and back rounds


def test_constant_turn_is_exact_for_agents_that_turn_at_constant_rate() -> None:
    batch = sequences(TRAFFIC)
    assert batch.track_state is not None
    for step in run(Baseline("constant-turn", 3), batch, 6):
        live = step.ids > 0
        truth = batch.track_state[:, : step.ids.shape[1], 2 + step.lead, :3]
        torch.testing.assert_close(step.pose[live], truth[live], atol=1e-4, rtol=0)


def test_who_stops_starts_again_without_a_push() -> None:
    state = forecaster(trained=False).start(sequences([[Mover(0.0, 0.0, speed=4.0)]]).crop(0, 3))
    model = forecaster(trained=False).eval()
    torch.nn.init.constant_(model.motion.moving[-1].bias, -9.0)
    with torch.inference_mode():
        stopped, _ = model.advance(state)
    assert not stopped.twist.any()
    assert not stopped.change.any()


@pytest.mark.parametrize(
    ("first", "ahead"),
    [(1.5, [2.5, 5.5, 9.0]), (3.5, [0.5, 0.5, 0.5]), (2.0, [2.0, 4.0, 6.0])],
)
def test_constant_acceleration_gains_speed_or_brakes_to_a_stop(
    first: float, ahead: list[float]
) -> None:
    batch = sequences([[Mover(0.0, 0.0, speed=4.0)]])  # 2 m in the last step
    assert batch.track_state is not None
    state = batch.track_state.clone()
    state[0, 0, 0, 0] = -2.0 - first
    steps = run(Baseline("constant-acceleration", 3), replace(batch, track_state=state), 3)
    assert [float(step.pose[0, 0, 0]) for step in steps] == pytest.approx(ahead, abs=1e-4)


def test_an_acceleration_that_persists_is_carried_to_every_step() -> None:
    batch = sequences([[Mover(0.0, 0.0, speed=4.0)]])
    assert batch.track_state is not None
    state = batch.track_state.clone()
    state[0, 0, 0, 0] += 0.5  # 1.5 m, then 2 m: half a metre more in each step
    model = forecaster(trained=False).eval()
    torch.nn.init.ones_(model.motion.persistence[-1].bias)
    steps = run(model, replace(batch, track_state=state), 3)
    ahead = [float(forecast.pose[0, 0, 0]) for forecast in steps]
    assert ahead == pytest.approx([2.5, 5.5, 9.0], abs=1e-4)


def test_nobody_is_braked_into_reverse() -> None:
    model = forecaster(trained=False).eval()
    change = torch.tensor([-1.5 / RESIDUAL_SCALE[0], 0.0, 0.0])  # every step 1.5 m shorter
    model.motion.residual[-1].bias = torch.nn.Parameter(change)
    steps = run(model, sequences([[Mover(-10.0, 0.0, speed=8.0)]]), 3)
    ahead = [float(forecast.pose[0, 0, 0]) for forecast in steps]
    assert ahead == pytest.approx([-7.5, -6.5, -6.5], abs=1e-3)


def test_the_mirrored_forecast_is_its_own_mirror_image() -> None:
    model, batch = Mirrored(forecaster()), sequences(TRAFFIC)
    ours, theirs = run(model, batch.mirror(), 3)[-1], run(model, batch, 3)[-1]
    live = ours.ids > 0
    image = (theirs.pose * torch.tensor([1.0, -1.0, -1.0]))[live]
    torch.testing.assert_close(ours.pose[live], image, atol=1e-4, rtol=0)
    alone = run(forecaster(), batch, 3)[-1]
    assert not torch.allclose(alone.pose[live], theirs.pose[live], atol=1e-3)


def test_a_quarter_turn_on_a_grid_that_is_not_square() -> None:
    grid = BEVGrid(-20.0, 40.0, -10.0, 30.0, 0.5)
    turner = Mover(0.0, 0.0, 0.0, speed=8.0, turn_rate=math.pi / 6)  # 90 degrees in 3 s
    last = run(Baseline("constant-turn", 3), sequences([[turner]], grid), 6)[-1]
    radius = 8.0 / (math.pi / 6)
    expected = torch.tensor([radius, radius, math.pi / 2])
    torch.testing.assert_close(last.pose[0, 0], expected, atol=1e-3, rtol=0)
    rows, columns = (last.instance[0] == 1).nonzero(as_tuple=True)
    assert len(rows) * 0.25 == pytest.approx(4.5 * 2.0, rel=0.2)
    assert rows.max() - rows.min() > columns.max() - columns.min()  # it now points along +y


@pytest.mark.parametrize("changes", [{}, {"memory": False}, *VARIANTS.values()])
def test_an_untrained_forecaster_is_constant_turn(changes: dict[str, Any]) -> None:
    batch = sequences(TRAFFIC)
    learned = run(forecaster(trained=False, **changes), batch, 6)
    for ours, theirs in zip(learned, run(Baseline("constant-turn", 3), batch, 6), strict=True):
        assert torch.equal(ours.instance, theirs.instance)
        assert torch.equal(ours.semantic, theirs.semantic)
        torch.testing.assert_close(ours.pose, theirs.pose, equal_nan=True, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.flow, theirs.flow, atol=1e-5, rtol=0)


@pytest.mark.parametrize("changes", [{}, *VARIANTS.values()])
def test_every_weight_has_a_say_in_training(
    changes: dict[str, Any], subtests: pytest.Subtests
) -> None:
    model = forecaster(**changes).train()
    state = model.start(sequences(TRAFFIC).crop(0, 3))
    total = torch.zeros(())
    for _ in range(2):
        state, slots = model.advance(state)
        refine = model.refiner(state, slots)
        assert refine is not None
        logits = refine(slots.pose[:, :, None, :2])
        total = total + slots.pose.sum() + slots.existence.sum() + logits.sum()
        total = total + slots.moving.sum() + slots.size.sum()
    total.backward()
    perception: tuple[str, ...] = ("tracker.", "carry.")
    if model.spec.mask_head == "fpn":  # then only finding agents reads the pixel embedding
        perception += ("encode.lateral.", "encode.context.", "encode.pixel.")
    for name, parameter in model.named_parameters():
        if not name.startswith(perception):
            with subtests.test(name):
                assert parameter.grad is not None


def test_an_empty_scene_stays_empty(model: Model) -> None:
    if isinstance(model, Detecting):
        pytest.skip("an untrained detector sees agents anywhere")
    for step in run(model, sequences([[]]), 3):
        assert not step.instance.any()
        assert not step.ids.any()
        assert torch.isfinite(step.occupancy).all()


def test_all_slots_may_be_full_but_not_more() -> None:
    movers = [Mover(-10.0 + 5 * i, 5.0 * j, 0.0, 2.0) for i in range(4) for j in (-1, 0, 1)]
    batch = sequences([movers])
    assert (run(forecaster(slots=12), batch, 2)[-1].ids > 0).sum() == 12
    with pytest.raises(DataError, match="at most 11 agents"):
        run(forecaster(slots=11), batch, 1)


def test_a_horizon_far_beyond_training_stays_finite(model: Model) -> None:
    last = run(model, sequences(TRAFFIC), 60)[-1]
    assert last.lead == 60
    assert torch.isfinite(last.existence).all()
    assert torch.isfinite(last.pose[last.ids > 0]).all()


@pytest.mark.parametrize("changes", [{}, {"interact": False}, {"update_position": True}])
def test_queries_beyond_the_learned_horizon_stay_as_they_were(changes: dict[str, Any]) -> None:
    model = forecaster(**changes)
    model.learned_horizon = 3
    state, contents = model.start(sequences(TRAFFIC).crop(0, 3)), []
    with torch.inference_mode():
        for _ in range(5):
            contents.append(state.content)
            state, _ = model.advance(state)
    assert not torch.equal(contents[1], contents[2])
    assert torch.equal(contents[2], contents[3])
    assert torch.equal(contents[2], contents[4])


def test_agents_turn_as_far_as_the_learned_horizon_and_go_straight_on_beyond() -> None:
    model = forecaster(trained=False)
    model.learned_horizon = 3
    bend = sequences([[Mover(-5.0, 0.0, 0.0, speed=3.0, turn_rate=0.2)]])
    headings = torch.stack([step.pose[0, 0, 2] for step in run(model, bend, 5)])
    turned = headings.diff(prepend=torch.zeros(1))
    torch.testing.assert_close(turned, torch.tensor([0.1, 0.1, 0.1, 0.0, 0.0]))


def test_who_is_forecast_with_little_certainty_is_drawn_larger() -> None:
    model, lone = forecaster(trained=False), sequences([[Mover(-5.0, 0.0, 0.0, speed=3.0)]])
    own = run(model, lone, 2)[-1].instance.sum()
    with torch.no_grad():
        model.motion.spread[-1].bias.copy_(torch.tensor([1.5, 1.0]).log())
    assert 1.3 * own < run(model, lone, 2)[-1].instance.sum() < 1.8 * own
    masks = replace(lone, track_state=None, track_class=None)
    with torch.no_grad():
        model.motion.spread[-1].bias.fill_(100.0)
    # An observed mask stays as it was.
    spread, plain = run(model, masks, 1)[-1], run(forecaster(trained=False), masks, 1)[-1]
    assert torch.equal(spread.instance, plain.instance)


def test_a_horizon_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 step"):
        run(Baseline("persistence", 3), sequences(TRAFFIC), 0)


def test_ids_persist_and_flow_points_back_to_where_the_content_was() -> None:
    batch = sequences([[Mover(0.25, 0.25, 0.0, speed=2.0)]])
    for step in run(forecaster(trained=False), batch, 3):
        assert step.ids.tolist() == [[1]]
        inside = step.instance[0] == 1
        torch.testing.assert_close(
            step.flow[0][:, inside].mean(1), torch.tensor([-1.0, 0.0]), atol=1e-5, rtol=0
        )


def test_models_without_lanes_or_map_forecast_as_well() -> None:
    batch = replace(sequences(TRAFFIC, lanes=False), map=None)
    model: Forecaster = forecaster()
    assert torch.isfinite(run(model, batch, 2)[-1].existence).all()


def force(model: Model, batch: BEVSequence, horizon: int) -> list[StepForecast]:
    with torch.inference_mode():
        return list(teacher_forced(model, batch, 3, horizon))


def test_the_first_lead_is_the_same_with_and_without_teacher_forcing(model: Model) -> None:
    batch = sequences(TRAFFIC)
    first, second = force(model, batch, 2)
    assert_same(first, run(model, batch, 1)[0])
    assert second.lead == 2
    assert_same(second, run(model, batch.crop(1, 4), 1)[0])


def test_at_constant_turn_rate_teacher_forcing_changes_nothing() -> None:
    batch, model = sequences(TRAFFIC[:1]), Baseline("constant-turn", 3)
    for forced, free in zip(force(model, batch, 6), run(model, batch, 6), strict=True):
        for ours, theirs in ((forced.ids, free.ids), (forced.instance, free.instance)):
            assert torch.equal(ours, theirs)
        torch.testing.assert_close(forced.pose, free.pose, atol=1e-4, rtol=0, equal_nan=True)
        torch.testing.assert_close(forced.flow, free.flow, atol=1e-4, rtol=0)


def test_teacher_forcing_ends_where_the_truth_before_a_lead_does() -> None:
    model, batch = Baseline("persistence", 3), sequences(TRAFFIC).crop(0, 6)
    assert [step.lead for step in force(model, batch, 4)] == [1, 2, 3, 4]
    for horizon in (0, 5):
        with pytest.raises(ConfigError, match=r"1 to 4 steps.*--teacher-forced"):
            force(model, batch, horizon)
