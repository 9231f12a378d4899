"""Observing: how queries and features are carried through what is seen, moment by moment.

Predict to the time of the observation, read it, find out who is who, correct. What is carried from
one observation to the next is a query of each agent, updated by a query interaction module (QIM),
and the pyramid of the last frame, warped by Kornia to where its agents are now.

Source: Zeng et al., "MOTR" (2022), QIM between frames; the correction is in ``correction.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from forecast.errors import DataError
from forecast.model.correction import Correction, Innovation
from forecast.model.feature_fusion import FeatureFusion
from forecast.model.layers.mlp import silent_linear
from forecast.model.query_interaction import QueryInteraction
from forecast.model.raster_encoder import EncodedFeatures
from forecast.model.scene import se2
from forecast.model.scene.agent_motion import SAME_MOMENT_S, last_motion, motion_between, same_front
from forecast.model.scene.agents import (
    Agents,
    Association,
    Seen,
    associate,
    attributes_of,
    facing,
    seen_in,
)
from forecast.model.scene.context import EgoMotion
from forecast.model.scene.rasterizer import rasterize_classes
from forecast.model.scene.warp import warp_by_agents
from forecast.model.spec import ForecasterSpec
from forecast.model.state import ForecastState, LastRaster
from forecast.types import Observation

# An agent that has moved less than this since a frame keeps its features where they are.
STILL_M = 0.1
# In less time, in time units, two poses tell no motion.
SHORTEST_GAP = 0.02

Encode = Callable[[Int[Tensor, "b h w"]], EncodedFeatures]
ReadScene = Callable[[ForecastState, EncodedFeatures], Float[Tensor, "b a d"]]
"""What each query reads in a frame, where its agent is."""


class Observer(nn.Module):
    """The part of a forecaster that reads the past.

    Args:
        spec: Hyper-parameters.
        attributes: Numbers that describe an agent's class and size.
        classes: Number of classes.
    """

    def __init__(self, spec: ForecasterSpec, attributes: int, classes: int) -> None:
        super().__init__()
        dim = spec.hidden_dim
        self.spec, self.classes = spec, classes
        self.correction = Correction(dim, attributes)
        self.query_interaction = QueryInteraction(dim, spec.heads, spec.ffn)
        self.fusion = FeatureFusion(dim) if spec.has_raster_encoder else None
        # Untrained, neither what is read in the raster nor what was carried changes a forecast.
        self.scene_encoder = silent_linear(dim, dim)
        self.carry = silent_linear(dim, dim)

    def carried(self, query: Float[Tensor, "b a d"]) -> Float[Tensor, "b a d"]:
        """What the query of the future takes over from that of the past."""
        out: Tensor = self.carry(query if self.spec.carry_queries else torch.zeros_like(query))
        return out

    def motion(self, state: ForecastState) -> tuple[Float[Tensor, "b a 3"], Float[Tensor, "b a 3"]]:
        """Motion at the present and its acceleration: of the last time unit and as corrected."""
        last = last_motion(state.agents, self.spec.time_unit_s)
        if not self.spec.learned_gain:
            return last
        twist, acceleration = self.correction.shares(state.query)
        return (
            last[0] + twist * (state.twist - last[0]),
            last[1] + acceleration * (state.acceleration - last[1]),
        )

    def forward(
        self,
        state: ForecastState,
        frame: Observation,
        encode: Encode | None,
        read_scene: ReadScene,
    ) -> ForecastState:
        """The state after a frame.

        Args:
            state: Before it, its poses in the frame's ego frame.
            frame: What was seen.
            encode: The raster encoder; None where the raster is not read.
            read_scene: The decoder.

        Raises:
            DataError: It was seen before what was observed last.
        """
        gap = self._gap(state, frame)
        state = replace(_predicted(state, gap), ego=_ego_motion(state.ego, frame, gap))
        seen = seen_in(frame, state.context.grid)
        link = self.associate(state.agents, seen)
        state, measured = state.linked(link, seen), link.shown(seen.pose)
        if seen.long is not None:
            long = link.shown(seen.long)
            turn, measured = facing(state.agents, state.pose, measured, link.found, long)
        else:
            turn, measured = same_front(state.agents, state.pose, measured, link.found)
        state = state.turned(turn)
        features = None
        if (
            encode is not None
            and (semantic := self._semantic(state, link, measured, frame)) is not None
        ):
            features = self._fused(state, encode(semantic))
        state = self._corrected(state, link.found, measured, frame, features, read_scene)
        return _with_raster(state, frame, features)

    def associate(self, agents: Agents, seen: Seen) -> Association:
        """Which of the agents seen each slot is."""
        return associate(agents, seen, self.spec.slots)

    def _gap(self, state: ForecastState, frame: Observation) -> Float[Tensor, "b"]:
        """Time since the observation before, in time units."""
        gap = state.agents.since_last(frame.time_s)
        if bool((gap < -SAME_MOMENT_S).all()):
            raise DataError(
                "observations in the order of time",
                f"one {-float(gap.min()):.3g} s before the last",
                "sort them by time_s, or leave the late one out",
            )
        # In a batch of several clocks a frame may be a little late for some of them.
        return gap.clamp(min=0) / self.spec.time_unit_s

    def _semantic(
        self, state: ForecastState, link: Association, measured: Tensor, frame: Observation
    ) -> Int[Tensor, "b h w"] | None:
        """The classes in the raster of a frame; None where it shows nothing.

        Where there are tracks it is drawn from them, so that a model reads what its tracker saw and
        nothing else.
        """
        if frame.track_state is None or not frame.track_state.shape[1]:
            return None if frame.track_state is not None else frame.semantic
        agents = state.agents
        return rasterize_classes(agents, measured, link.found & agents.live, state.context.grid)

    def _fused(self, state: ForecastState, features: EncodedFeatures) -> EncodedFeatures:
        """A frame's features and, warped to it, those of the frame before."""
        raster = state.raster
        if self.fusion is None or raster is None or not self.spec.carry_features:
            return features
        carried = warped(raster, state, state.pose.detach())
        if carried is None:
            return features
        fused: EncodedFeatures = self.fusion(features, carried.levels)
        return fused

    def _corrected(
        self,
        state: ForecastState,
        found: Bool[Tensor, "b a"],
        measured: Float[Tensor, "b a 3"],
        frame: Observation,
        features: EncodedFeatures | None,
        read_scene: ReadScene,
    ) -> ForecastState:
        """Queries that know of the observation, and poses and motions as far as they believe it."""
        agents = state.agents
        first = not agents.seen.shape[2]
        count = agents.seen.sum(-1)
        anchor = measured if first else agents.pose_at(agents.last_seen)
        since_s = frame.time_s[:, None] - (
            frame.time_s[:, None] if first else agents.time_s.gather(1, agents.last_seen)
        )
        since = torch.where(count > 0, since_s / self.spec.time_unit_s, 0.0)
        known = found & (count > 0)
        off = se2.between(state.pose, measured) * known[..., None]
        innovation = Innovation(off, found, count, since, state.twist, state.acceleration)
        query = state.query
        if self.spec.learned_gain or self.spec.carry_queries:  # else nothing reads them
            query = self._query(state, innovation, measured, features, read_scene)
        gain = self.correction.gains(query, innovation, self.spec.learned_gain)
        pose = se2.compose(state.pose, gain.pose * off)
        pose = torch.where((found & (count == 0))[..., None], measured, pose)
        motion = (
            motion_between(anchor, pose, agents.size) / since.clamp(min=SHORTEST_GAP)[..., None]
        )
        tells_motion = known & (since > SHORTEST_GAP)
        twist = state.twist + gain.twist * (motion - state.twist) * tells_motion[..., None]
        shown = (twist - state.twist) / since.clamp(min=SHORTEST_GAP)[..., None]
        # Only an agent that was seen in the observation before as well tells it.
        tells_acceleration = tells_motion & (count > 1)
        if not first:
            tells_acceleration = tells_acceleration & agents.seen[..., -1]
        acceleration = (
            state.acceleration
            + gain.acceleration * (shown - state.acceleration) * tells_acceleration[..., None]
        )
        return replace(
            state,
            agents=agents.observed(pose, found, frame.time_s),
            pose=pose,
            twist=twist,
            acceleration=acceleration,
            query=query,
        )

    def _query(
        self,
        state: ForecastState,
        innovation: Innovation,
        measured: Float[Tensor, "b a 3"],
        features: EncodedFeatures | None,
        read_scene: ReadScene,
    ) -> Float[Tensor, "b a d"]:
        """The queries after the observation."""
        agents = state.agents
        before = state.query if self.spec.carry_queries else torch.zeros_like(state.query)
        told = self.correction.read(innovation, attributes_of(agents, self.classes))
        if features is not None and self.spec.read_features:
            pose = torch.where(innovation.found[..., None], measured, state.pose)
            told = told + self.scene_encoder(read_scene(replace(state, pose=pose), features))
        _, query = self.query_interaction(
            before + told, torch.zeros_like(before), before, agents.live
        )
        out: Tensor = query * agents.live[..., None]
        return out


def warped(
    raster: LastRaster, state: ForecastState, pose: Float[Tensor, "b a 3"]
) -> EncodedFeatures | None:
    """A raster's features with every agent's carried to where it is now.

    Args:
        raster: The last raster; its slots are those of ``state``.
        state: Whose agents they are.
        pose: Where each of them is.
    """
    if raster.features is None:
        return None
    agents = state.agents
    shift = torch.linalg.vector_norm((pose - raster.pose)[..., :2], dim=-1)
    moving: Bool[Tensor, "b a"] = agents.live & (shift > STILL_M)
    levels = warp_by_agents(
        raster.features.levels,
        raster.pose,
        pose,
        agents.size,
        moving,
        state.context.grid,
        raster.frame,
    )
    return replace(raster.features, levels=levels)


def in_raster(raster: LastRaster, body: Float[Tensor, "b a p 2"]) -> Float[Tensor, "b a p 2"]:
    """Points of each agent's own frame, where they were in the last raster, metres."""
    points = se2.apply(raster.pose[:, :, None], body)
    return points if raster.frame is None else se2.apply(raster.frame[:, None, None], points)


def _predicted(state: ForecastState, gap: Float[Tensor, "b"]) -> ForecastState:
    """Where agents are expected after some time units; an acceleration fades within one."""
    units = gap[:, None, None]
    gained = state.acceleration * (1 - (-units).exp())
    return replace(
        state,
        pose=se2.compose(state.pose, se2.exp((state.twist + gained / 2) * units)),
        twist=state.twist + gained,
    )


def _with_raster(
    state: ForecastState, frame: Observation, features: EncodedFeatures | None
) -> ForecastState:
    if frame.semantic is None:
        return state
    labels = frame.instance if frame.instance is not None else torch.zeros_like(frame.semantic)
    before = state.raster
    if features is None and before is not None and before.features is not None:
        return replace(state, raster=replace(before, labels=labels))  # no agent was tracked then
    return replace(state, raster=LastRaster(features, labels, state.pose))


def _ego_motion(ego: EgoMotion | None, frame: Observation, gap: Float[Tensor, "b"]) -> EgoMotion:
    """Pose and motion of the ego at a frame; its motion stays where hardly any time has passed."""
    if ego is None:
        return EgoMotion(frame.ego_pose, torch.zeros_like(frame.ego_pose))
    moved = se2.log(se2.between(ego.pose, frame.ego_pose)) / gap.clamp(min=SHORTEST_GAP)[:, None]
    return EgoMotion(frame.ego_pose, torch.where((gap > SHORTEST_GAP)[:, None], moved, ego.twist))
