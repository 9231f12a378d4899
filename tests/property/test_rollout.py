"""What holds for the rollout of every model."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from forecast.data.reader import collate
from forecast.errors import ConfigError
from forecast.inference.job import RolloutJob
from forecast.inference.request import RolloutRequest
from forecast.loop import observed, rollout, teacher_forced
from forecast.model.baselines import Baseline
from forecast.model.detected_input import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.mirrored import Mirrored
from forecast.types import BEVSequence, Observation, SceneContext, StepForecast, map_tensors
from tests.support.rollouts import VARIANTS, Model, assert_same, detecting, run
from tests.support.sequences import TRAFFIC, forecaster, sequences
from tests.support.stores import Mover


def test_a_short_horizon_is_the_beginning_of_a_long_one(model: Model) -> None:
    batch = sequences(TRAFFIC)
    for short, long in zip(run(model, batch, 3), run(model, batch, 6), strict=False):
        assert_same(short, long)


def test_steps_may_be_of_another_length_than_from_frame_to_frame() -> None:
    past = sequences(TRAFFIC).crop(0, 3)
    model = Baseline("constant-turn", 3)
    halves, whole = list(rollout(model, past, 6, 0.25)), list(rollout(model, past, 3))
    for index, step in enumerate(whole):
        live = step.ids > 0
        torch.testing.assert_close(
            halves[2 * index + 1].pose[live], step.pose[live], atol=1e-4, rtol=0
        )


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


class Spied:
    """A model that remembers what it was given to read."""

    def __init__(self, model: Model) -> None:
        self.model, self.given = model, list[list[Observation]]()

    @property
    def reads_tracks(self) -> bool:
        return self.model.reads_tracks

    def start(self, context: SceneContext) -> object:
        self.given.append([])
        return self.model.start(context)

    def observe(self, state: object, frame: Observation) -> object:
        self.given[-1].append(frame)
        return self.model.observe(state, frame)

    def step(self, state: object, dt_s: float) -> tuple[object, StepForecast]:
        return self.model.step(state, dt_s)


def assert_rasters(given: list[Observation], whole: BEVSequence, start: int, stop: int) -> None:
    """What was given are the rasters of those frames of the whole, and where the ego was."""
    assert len(given) == stop - start
    for index, frame in enumerate(given, start):
        for name in ("semantic", "instance", "ego_pose"):
            assert torch.equal(getattr(frame, name), getattr(whole, name)[:, index]), name


def assert_frames(given: list[Observation], whole: BEVSequence, start: int, stop: int) -> None:
    """What was given are those frames of the whole, in every field that has a time."""
    assert_rasters(given, whole, start, stop)
    assert whole.track_state is not None
    for index, frame in enumerate(given, start):
        torch.testing.assert_close(
            frame.track_state, whole.track_state[:, :, index], rtol=0, atol=0, equal_nan=True
        )


def test_nothing_of_the_future_is_read(tmp_path: Path) -> None:
    job = RolloutJob(RolloutRequest(model="persistence", horizon=2, limit=1, device="cpu"))
    whole, history = collate([job.reader[0]]), job.reader.meta.history
    assert whole.semantic.shape[1] > history
    spied = Spied(job.model)
    job.model = spied
    job.lay_out(store := str(tmp_path / "forecast.zarr"))
    job.forecast(store, 0)
    (given,) = spied.given
    assert whole.track_history is not None
    assert all((moment.time_s <= 0).all() for moment in given)
    padding = whole.track_history.shape[2] - len(given)
    assert whole.track_history[:, :, :padding].isnan().all()
    for index, moment in enumerate(given, padding):
        torch.testing.assert_close(
            moment.track_state, whole.track_history[:, :, index], rtol=0, atol=0, equal_nan=True
        )
    frames = [moment for moment in given if moment.semantic is not None]
    assert_rasters(frames, whole, 0, history)


def test_teacher_forcing_reads_no_frame_of_the_lead_it_forecasts() -> None:
    spied, whole = Spied(Baseline("persistence", 3)), sequences(TRAFFIC)
    list(teacher_forced(spied, whole, 3, 2))
    for lead, given in enumerate(spied.given, 1):
        assert_frames(given, whole, lead - 1, lead + 2)
    assert len(spied.given) == 2


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
            int(
                observed(
                    detecting(track_threshold=0.9999, miss_tolerance=frames), past
                ).tracks.used.max()
            )
            for frames in (0, 2)
        )
    assert 0 < patient < impatient  # whoever is given up is born again under another id


def test_a_state_saved_to_disk_goes_on_as_if_nothing_had_happened(model: Model) -> None:
    batch = sequences(TRAFFIC).crop(0, 3)
    with torch.inference_mode():
        state = observed(model, batch)
        state, _ = model.step(state, 0.5)
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        saved = torch.load(file, weights_only=False)
        assert_same(model.step(state, 0.5)[1], model.step(saved, 0.5)[1])


def test_a_step_does_not_change_the_state_it_is_given(model: Model) -> None:
    with torch.inference_mode():
        state = observed(model, sequences(TRAFFIC).crop(0, 3))
        first = model.step(state, 0.5)[1]
        assert_same(first, model.step(state, 0.5)[1])


def test_the_mirrored_forecast_is_its_own_mirror_image() -> None:
    model, batch = Mirrored(forecaster()), sequences(TRAFFIC)
    ours, theirs = run(model, batch.mirror(), 3)[-1], run(model, batch, 3)[-1]
    live = ours.ids > 0
    image = (theirs.pose * torch.tensor([1.0, -1.0, -1.0]))[live]
    torch.testing.assert_close(ours.pose[live], image, atol=1e-4, rtol=0)
    alone = run(forecaster(), batch, 3)[-1]
    assert not torch.allclose(alone.pose[live], theirs.pose[live], atol=1e-3)


@pytest.mark.parametrize("changes", [{}, *VARIANTS.values()])
def test_every_weight_has_a_say_in_training(
    changes: dict[str, Any], subtests: pytest.Subtests
) -> None:
    model = forecaster(**changes).train()
    state = observed(model, sequences(TRAFFIC).crop(0, 3))
    total = torch.zeros(())
    for _ in range(2):
        state, slots = model.advance(state, 0.5)
        refine = model.refiner(state, slots)
        assert refine is not None
        logits = refine(slots.pose[:, :, None, :2])
        total = total + slots.pose.sum() + slots.existence.sum() + logits.sum()
        total = total + slots.moving.sum() + slots.uncertainty.sum()
        newcomers = model.newcomer_logits(state)
        assert newcomers is not None
        total = total + newcomers.sum()
    total.backward()
    perception: tuple[str, ...] = ("tracker.", "track_encoder.")
    if model.spec.mask_head == "fpn":  # then only finding agents reads the pixel embedding
        perception += (
            "raster_encoder.lateral.",
            "raster_encoder.context.",
            "raster_encoder.pixel.",
        )
    for name, parameter in model.named_parameters():
        if not name.startswith(perception):
            with subtests.test(name):
                assert parameter.grad is not None
                assert parameter.grad.any()


def test_an_empty_scene_stays_empty(model: Model) -> None:
    if isinstance(model, Detecting):
        pytest.skip("an untrained detector sees agents anywhere")
    for step in run(model, sequences([[]]), 3):
        assert not step.instance.any()
        assert not step.ids.any()
        assert torch.isfinite(step.occupancy).all()


def test_of_more_agents_than_slots_the_nearest_are_forecast() -> None:
    movers = [Mover(-10.0 + 5 * i, 5.0 * j, 0.0, 2.0) for i in range(4) for j in (-1, 0, 1)]
    batch = sequences([movers])
    assert (run(forecaster(slots=12), batch, 2)[-1].ids > 0).sum() == 12
    assert batch.track_state is not None
    away = torch.linalg.vector_norm(batch.track_state[0, :, 0, :2], dim=-1)
    nearest = sorted((away.argsort()[:7] + 1).tolist())
    with pytest.warns(UserWarning, match="12 agents in a scene and room for 7"):
        assert run(forecaster(slots=7), batch, 1)[-1].ids[0].tolist() == nearest


def test_a_horizon_far_beyond_training_stays_finite(model: Model) -> None:
    last = run(model, sequences(TRAFFIC), 60)[-1]
    assert last.lead == 60
    assert torch.isfinite(last.existence).all()
    assert torch.isfinite(last.pose[last.ids > 0]).all()


def test_a_horizon_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 step"):
        run(Baseline("persistence", 3), sequences(TRAFFIC), 0)


def test_models_without_lanes_or_map_forecast_as_well() -> None:
    batch = replace(sequences(TRAFFIC, lanes=False), map=None)
    model: Forecaster = forecaster()
    assert torch.isfinite(run(model, batch, 2)[-1].existence).all()
