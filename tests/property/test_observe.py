"""What holds for the way in which models observe: moment by moment, at any rate, in any frame."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from forecast.errors import DataError
from forecast.loop import observed, rollout
from forecast.model.baselines import Baseline
from forecast.model.detected_input import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.layers.deformable_attention import MultiScaleDeformableAttention
from forecast.model.observer import warped
from forecast.model.scene import se2
from forecast.model.scene.agents import MEMORY
from forecast.observations import observations, scene_context
from forecast.types import BEVSequence, StepForecast, map_tensors
from tests.support.moments import seen_from
from tests.support.rollouts import MODELS, assert_same, run
from tests.support.sequences import TRAFFIC, forecaster, sequences
from tests.support.stores import GRID, Mover

RATE_S = 0.1


def sampled(
    batch: BEVSequence, count: int = 21, history: int = 3, step_s: float = RATE_S
) -> BEVSequence:
    """The batch with what a tracker saw at 10 Hz: every agent on its arc through the present."""
    assert batch.track_state is not None
    state = batch.track_state
    now, last = state[:, :, history - 1, :3], state[:, :, history - 2, :3]
    twist = se2.log(se2.between(last, now)) / batch.dt_s
    time_s = torch.arange(1 - count, 1) * step_s
    pose = se2.compose(now[:, :, None], se2.exp(twist[:, :, None] * time_s[:, None]))
    size = state[:, :, history - 1, None, 3:].expand(-1, -1, count, -1)
    return replace(
        batch,
        track_history=torch.cat((pose, size), -1),
        sample_time=time_s.expand(batch.batch, -1).clone(),
    )


def poses(steps: list[StepForecast]) -> list[Tensor]:
    return [step.pose[step.ids > 0] for step in steps]


def test_what_was_seen_before_what_was_seen_last_is_refused() -> None:
    model, batch = forecaster(), sequences(TRAFFIC).crop(0, 3)
    first, second, third = observations(batch)
    state = model.observe(model.start(scene_context(batch)), second)
    with pytest.raises(DataError, match=r"in the order of time; got one 0\.5 s before the last"):
        model.observe(state, first)
    again = model.observe(model.observe(state, second), third)  # at the same time is in order
    assert bool(torch.isfinite(again.pose).all())


@pytest.mark.parametrize("rate", ["frames", "10 Hz"])
@pytest.mark.parametrize("kind", ["tracked", "detected", "components", "components, filtered"])
def test_a_history_in_two_sittings_is_the_history_at_once(kind: str, rate: str) -> None:
    """What is saved in between is all that is needed, and none of it is changed by going on."""
    model, batch = MODELS[kind](), sequences(TRAFFIC).crop(0, 3)
    batch = sampled(batch) if rate == "10 Hz" else batch
    moments = list(observations(batch))
    middle = len(moments) // 2 + 1
    with torch.inference_mode():
        state = model.start(scene_context(batch))
        for frame in moments[:middle]:
            state = model.observe(state, frame)
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        whole = next(rollout(model, batch, 1))
        assert (whole.ids > 0).any()
        for begun in (state, torch.load(file, weights_only=False)):
            for frame in moments[middle:]:
                begun = model.observe(begun, frame)
            assert_same(model.step(begun, 0.5)[1], whole)


@pytest.mark.parametrize("padding", [8, 10], ids=["between frames", "up to a frame"])
def test_a_batch_of_samples_forecasts_what_each_sequence_alone_would(padding: int) -> None:
    model, batch = forecaster(), sampled(sequences(TRAFFIC))
    assert batch.sample_time is not None
    assert batch.track_history is not None
    batch.sample_time[1, :padding] = torch.nan  # one recording has begun only a while ago
    batch.track_history[1, :, :padding] = torch.nan
    together = run(model, batch, 2)[-1]
    for index in range(2):
        alone = run(model, map_tensors(batch, lambda t, i=index: t[i : i + 1]), 2)[-1]
        live = alone.ids[0] > 0
        mine = together.pose[index, : len(live)][live]
        torch.testing.assert_close(mine, alone.pose[0][live], atol=1e-4, rtol=0)


def bytes_of(state: object) -> int:
    file = io.BytesIO()
    torch.save(map_tensors(state, torch.clone), file)
    return file.tell()


@pytest.mark.parametrize("kind", ["tracked", "detected", "components", "components, filtered"])
def test_what_is_carried_does_not_grow_with_what_was_seen(kind: str) -> None:
    model, batch = MODELS[kind](), sequences(TRAFFIC).crop(0, 3)
    last = list(observations(batch))[-1]
    sizes = []
    with torch.inference_mode():
        state = model.start(scene_context(batch))
        for index in range(2 * MEMORY):
            state = model.observe(state, replace(last, time_s=last.time_s + 0.1 * index))
            sizes.append(bytes_of(state))
    assert sizes[-1] == pytest.approx(sizes[MEMORY], rel=0.01)


def test_detected_input_reads_a_history_of_any_rate_by_its_times() -> None:
    """The same agents, and motions per second that are the same, from 2 Hz and from 4 Hz."""
    scene = [[Mover(0.0, 0.0, 0.0, 6.0), Mover(8.0, 6.0, 3.1, 4.0), Mover(-8.0, -6.0, 1.5, 0.0)]]
    twists = []
    model = Detecting(forecaster(trained=False, birth_threshold=0.999))  # components alone
    for history, dt_s in ((3, 0.5), (5, 0.25)):
        past = sequences(scene, history=history, dt_s=dt_s).crop(0, history)
        with torch.inference_mode():
            state = observed(model, replace(past, dt_s=dt_s))
        part = state.parts[0]
        order = part.centre[:, 0].argsort()
        twists.append(torch.as_tensor(part.velocity[order]))
        assert sorted(part.agent.tolist()) == [1, 2, 3]
    torch.testing.assert_close(twists[0], twists[1], atol=0.7, rtol=0)
    speed = torch.linalg.vector_norm(twists[0], dim=-1)
    torch.testing.assert_close(speed, torch.tensor([0.0, 6.0, 4.0]).double(), atol=0.7, rtol=0)


def test_an_untrained_model_that_observes_samples_is_constant_turn() -> None:
    batch = sampled(sequences(TRAFFIC))
    ours = run(forecaster(trained=False), batch, 6)
    theirs = run(Baseline("constant-turn", 3), batch, 6)
    for one, other in zip(poses(ours), poses(theirs), strict=True):
        torch.testing.assert_close(one, other, atol=3e-3, rtol=0)


def test_five_steps_of_a_tenth_are_one_of_a_half() -> None:
    batch = sequences(TRAFFIC).crop(0, 3)
    for model in (forecaster(trained=False), Baseline("constant-turn", 3), Baseline("kalman", 3)):
        with torch.inference_mode():
            state = observed(model, batch)  # type: ignore[type-var]
            half = model.step(state, 0.5)[1]  # type: ignore[arg-type]
            for _ in range(5):
                state, tenth = model.step(state, 0.1)  # type: ignore[arg-type,assignment]
        for ours, theirs in zip(poses([tenth]), poses([half]), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=0)


def test_an_irregular_history_is_read_by_its_times() -> None:
    """A straight drive is known from any of its moments."""
    batch = sampled(sequences([[Mover(0.0, 0.0, speed=8.0)]]))
    assert batch.sample_time is not None
    assert batch.track_history is not None
    kept = torch.tensor([0, 1, 5, 12, 13, 20])
    few = replace(
        batch,
        track_history=batch.track_history[:, :, kept],
        sample_time=batch.sample_time[:, kept],
    )
    (step,) = run(forecaster(trained=False), few, 1)
    torch.testing.assert_close(step.pose[0, 0], torch.tensor([4.0, 0.0, 0.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("turn", [0.0, math.pi / 2, -2.0])
def test_a_frame_that_has_moved_and_turned_gives_the_same_poses_in_the_world(turn: float) -> None:
    """Where features are then is tested in ``test_warp.py``: sampled anew they are not the same."""
    assert GRID.height != GRID.width
    batch = sequences(TRAFFIC[:2], lanes=False).crop(0, 3)
    batch = replace(batch, map=None)
    # No frame is seen at the last moment, whose raster would be that of another frame.
    moments = list(observations(batch))
    last = replace(moments[-1], semantic=None, instance=None, time_s=moments[-1].time_s)
    moved = torch.tensor([[2.0, -1.5, turn]]).expand(2, -1)
    model = forecaster(read_features=False)
    with torch.inference_mode():
        state = model.start(scene_context(batch))
        for frame in moments[:-1]:
            state = model.observe(state, frame)
        own = model.step(model.observe(state, last), 0.5)[1]
        other = model.step(model.observe(state, seen_from(last, moved)), 0.5)[1]
    live = own.ids > 0
    assert torch.equal(live, other.ids > 0)
    back = se2.compose(moved[:, None], other.pose)
    torch.testing.assert_close(back[live], own.pose[live], atol=1e-4, rtol=0)
    torch.testing.assert_close(other.existence, own.existence, atol=1e-4, rtol=0)


def noisy(batch: BEVSequence) -> BEVSequence:
    assert batch.track_history is not None
    torch.manual_seed(0)
    error = torch.randn_like(batch.track_history) * torch.tensor([0.1, 0.1, 0.02, 0.0, 0.0])
    return replace(batch, track_history=batch.track_history + error)


def hidden(batch: BEVSequence, track: int, samples: slice) -> BEVSequence:
    assert batch.track_history is not None
    seen = batch.track_history.clone()
    seen[:, track, samples] = torch.nan
    return replace(batch, track_history=seen)


def test_who_is_hidden_for_a_while_keeps_its_id_and_its_way() -> None:
    batch = sampled(sequences(TRAFFIC))
    whole = run(forecaster(trained=False), batch, 1)[0]
    gap = run(forecaster(trained=False), hidden(batch, 0, slice(9, 19)), 1)[0]
    assert gap.ids[0].tolist() == whole.ids[0].tolist()
    torch.testing.assert_close(gap.pose[0, 0], whole.pose[0, 0], atol=0.02, rtol=0)


def test_who_is_hidden_at_the_present_is_forecast_with_less_certainty() -> None:
    batch = hidden(sampled(sequences(TRAFFIC)), 0, slice(16, 21))
    step = run(forecaster(trained=False), batch, 1)[0]
    assert step.ids[0, 0] == 1
    assert step.existence[0, 0] < 0.5 < step.existence[0, 1]
    assert not (step.instance[0] == 1).any()
    truth = run(Baseline("constant-turn", 3), sampled(sequences(TRAFFIC)), 1)[0]
    torch.testing.assert_close(step.pose[0, 0], truth.pose[0, 0], atol=0.05, rtol=0)


def test_who_was_not_seen_for_longer_is_not_forecast() -> None:
    batch = hidden(sampled(sequences(TRAFFIC), count=31), 0, slice(9, 31))
    step = run(forecaster(trained=False), batch, 1)[0]
    assert 1 not in step.ids[0].tolist()


def test_the_tracker_s_raster_is_read_and_not_that_of_the_store() -> None:
    batch = sequences(TRAFFIC)
    others = replace(batch, semantic=batch.semantic.flip(-1), instance=batch.instance.flip(-1))
    model = forecaster()
    ours, theirs = run(model, batch, 2)[-1], run(model, others, 2)[-1]
    torch.testing.assert_close(ours.pose, theirs.pose, equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize(
    "part", ["carry_queries", "learned_gain", "carry_features", "warp", "read_features"]
)
def test_every_part_that_carries_time_can_be_left_out_and_has_a_say(part: str) -> None:
    batch = noisy(sampled(sequences(TRAFFIC)))
    whole, without = (run(forecaster(**changes), batch, 2)[-1] for changes in ({}, {part: False}))
    live = whole.ids > 0
    assert not torch.allclose(whole.pose[live], without.pose[live], atol=1e-6)


def test_the_mask_head_can_be_left_out_and_has_a_say() -> None:
    batch = sampled(sequences(TRAFFIC))
    whole, without = (run(forecaster(refine_masks=refine), batch, 1)[0] for refine in (True, False))
    assert not torch.equal(whole.instance, without.instance)
    torch.testing.assert_close(whole.pose, without.pose, equal_nan=True)


def counted(calls: dict[str, int], name: str) -> Callable[..., None]:
    def hook(*_: object) -> None:
        calls[name] = calls.get(name, 0) + 1

    return hook


def test_one_rollout_calls_every_part_as_often_as_the_loop_implies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three frames among 21 samples, then six steps."""
    model: Forecaster = forecaster()
    calls: dict[str, int] = {}
    assert model.raster_encoder is not None
    assert model.observer.fusion is not None
    assert model.query_interaction is not None
    for name, module in (
        ("raster encoder", model.raster_encoder),
        ("fusion", model.observer.fusion),
        ("QIM of the past", model.observer.query_interaction),
        ("QIM of the future", model.query_interaction),
        ("decoder", model.decoder),
        ("mask head", model.mask_head),
    ):
        module.register_forward_hook(counted(calls, name))
    attention = [m for m in model.decoder.modules() if isinstance(m, MultiScaleDeformableAttention)]
    assert len(attention) == 1
    attention[0].register_forward_hook(counted(calls, "deformable attention"))
    import forecast.model.scene.warp as warp

    remapped = warp.remap
    levels = model.spec.levels

    def remap(*args: Any, **options: Any) -> Tensor:
        counted(calls, "Kornia")()
        return remapped(*args, **options)

    monkeypatch.setattr(warp, "remap", remap)
    run(model, sampled(sequences(TRAFFIC)), 6)
    assert calls == {
        "raster encoder": 3,
        "fusion": 2,
        "QIM of the past": 21,
        # Not after the last step of the learned horizon.
        "QIM of the future": 5,
        "decoder": 3 + 6,
        "deformable attention": 3 + 6,
        "mask head": 6,
        # Every level to the next frame and to every lead but the first, and the pixels of masks.
        "Kornia": levels * (2 + 5) + 6,
    }


def test_a_model_that_carries_nothing_reads_samples_as_it_reads_frames() -> None:
    """Checkpoints of earlier versions, which learned from frames, forecast as they did."""
    batch = sequences(TRAFFIC)
    samples = sampled(batch)
    assert samples.track_history is not None
    assert samples.sample_time is not None
    between = (samples.sample_time[0] / batch.dt_s).frac().abs() > 0.1
    spoiled = samples.track_history.clone()
    spoiled[:, :, between] = noisy(samples).track_history[:, :, between]  # type: ignore[index]
    model = forecaster(learned_gain=False, carry_queries=False, carry_features=False)
    ours = run(model, replace(samples, track_history=spoiled), 2)
    for one, other in zip(ours, run(model, batch, 2), strict=True):
        torch.testing.assert_close(one.pose, other.pose, equal_nan=True, atol=1e-3, rtol=0)


def test_features_of_an_agent_that_is_turned_round_stay_where_they_were() -> None:
    """Where its heading was taken the wrong way, what is carried under it is not turned."""
    model, batch = forecaster(raster="always"), sequences(TRAFFIC).crop(0, 3)
    first, second, _ = observations(batch)
    with torch.no_grad():
        state = model.observe(model.start(scene_context(batch)), first)
        state = model.observe(state, second)
        turn = math.pi * state.agents.live
        about = state.turned(turn)
        assert state.raster is not None
        assert about.raster is not None
        moved = state.pose + torch.tensor([1.0, 0.0, 0.0])
        carried = warped(state.raster, state, moved)
        turned = warped(about.raster, about, moved + turn[..., None] * torch.tensor([0, 0, 1.0]))
    assert carried is not None
    assert turned is not None
    for one, other in zip(carried.levels, turned.levels, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
