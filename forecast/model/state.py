"""What a forecaster carries from moment to moment, and what one of its steps says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from forecast.model.raster_encoder import EncodedFeatures
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents, Association, Seen, slots_of
from forecast.model.scene.context import EgoMotion
from forecast.model.scene.warp import scene_seen_from
from forecast.types import SceneContext


@dataclass(frozen=True)
class LastRaster:
    """The last frame that had a raster.

    Attributes:
        features: Its encoded features, those carried from earlier frames fused in; None where the
            raster is not read.
        labels: Its label map of ids.
        pose: Pose of each slot when it was seen, in the present frame.
        frame: Pose of the present frame in the frame of the raster; None = the same.
    """

    features: EncodedFeatures | None
    labels: Int[Tensor, "b h w"]
    pose: Float[Tensor, "b a 3"]
    frame: Float[Tensor, "b 3"] | None = None


@dataclass(frozen=True)
class ForecastState:
    """Everything that the next moment needs; its size depends neither on history nor on the lead.

    Attributes:
        lead: Steps made into the future.
        elapsed_s: Seconds of these steps.
        ahead: Whether it has turned from observing to forecasting.
        agents: The slots as observed.
        context: Map and lanes.
        ego: Pose and motion of the ego at the last observation.
        raster: The last raster; None before there was one.
        pose: Pose of each slot now.
        twist: Its motion per time unit, in its own frame.
        acceleration: How much that changes per time unit.
        query: What each query has learned of its agent.
        visibility: What visibility from the ego added to existence in the last step.
        query_pos: What QIM adds to the query's ``query_pos``; None where it updates the query only.
        newcomers: What the last raster tells of agents that have not been seen yet; None where it
            is not read, and before the first step.
    """

    lead: int
    elapsed_s: float
    ahead: bool
    agents: Agents
    context: SceneContext
    ego: EgoMotion | None
    raster: LastRaster | None
    pose: Float[Tensor, "b a 3"]
    twist: Float[Tensor, "b a 3"]
    acceleration: Float[Tensor, "b a 3"]
    query: Float[Tensor, "b a d"]
    visibility: Float[Tensor, "b a"]
    query_pos: Float[Tensor, "b a d"] | None = None
    newcomers: Float[Tensor, "b e hn wn"] | None = None

    @property
    def features(self) -> EncodedFeatures | None:
        """Encoded features of the last raster; None where there are none."""
        return None if self.raster is None else self.raster.features

    def linked(self, link: Association, seen: Seen) -> ForecastState:
        """The same with the slots of an association; agents that are new have zeros."""
        raster = self.raster
        if raster is not None:
            raster = replace(raster, pose=link.carried(raster.pose))
        return replace(
            self,
            agents=self.agents.linked(link, seen),
            raster=raster,
            pose=link.carried(self.pose),
            twist=link.carried(self.twist),
            acceleration=link.carried(self.acceleration),
            query=link.carried(self.query),
            visibility=link.carried(self.visibility),
        )

    def take(self, order: Int[Tensor, "b s"], agents: Agents) -> ForecastState:
        """The same with some of the slots, in an order, and what is known of them then."""
        raster = self.raster
        if raster is not None:
            raster = replace(raster, pose=slots_of(raster.pose, order))
        return replace(
            self,
            agents=agents,
            raster=raster,
            pose=slots_of(self.pose, order),
            twist=slots_of(self.twist, order),
            acceleration=slots_of(self.acceleration, order),
            query=slots_of(self.query, order),
            visibility=self.visibility.gather(1, order),
        )

    def seen_from(self, moved: Float[Tensor, "b 3"]) -> ForecastState:
        """The same in another frame.

        Args:
            moved: Pose of that frame in the present one.
        """
        agents, raster, ego = self.agents, self.raster, self.ego
        if ego is not None:
            ego = replace(ego, pose=se2.between(moved, ego.pose))
        past = se2.between(moved[:, None, None], agents.past)
        if raster is not None:
            frame = moved if raster.frame is None else se2.compose(raster.frame, moved)
            raster = replace(raster, pose=se2.between(moved[:, None], raster.pose), frame=frame)
        return replace(
            self,
            agents=replace(agents, past=past),
            context=scene_seen_from(self.context, moved),
            ego=ego,
            raster=raster,
            pose=se2.between(moved[:, None], self.pose),
        )

    def turned(self, turn: Float[Tensor, "b a"]) -> ForecastState:
        """The same with headings turned on the spot: agents face another way than was believed."""
        by, raster = torch.nn.functional.pad(turn[..., None], (2, 0)), self.raster
        if raster is not None:
            raster = replace(raster, pose=raster.pose + by)
        return replace(
            self,
            agents=self.agents.turned(turn),
            raster=raster,
            pose=self.pose + by,
            twist=_in_turned_frame(self.twist, turn),
            acceleration=_in_turned_frame(self.acceleration, turn),
        )


def _in_turned_frame(twist: Tensor, turn: Tensor) -> Tensor:
    return torch.cat((se2.rotate(twist[..., :2], -turn), twist[..., 2:]), -1)


@dataclass(frozen=True)
class SlotStep:
    """One step before it is drawn: what training compares with the truth.

    Attributes:
        lead: Steps after the present.
        agents: The slots.
        pose: Pose of each slot after the step.
        before: Pose before it.
        moving: Logit of moving in this step.
        existence: Logit of being there.
        uncertainty: Expected error of the pose, metres ahead and aside: scales of Laplace
            distributions.
        output: Decoded queries, for the mask head.
    """

    lead: int
    agents: Agents
    pose: Float[Tensor, "b a 3"]
    before: Float[Tensor, "b a 3"]
    moving: Float[Tensor, "b a"]
    existence: Float[Tensor, "b a"]
    uncertainty: Float[Tensor, "b a 2"]
    output: Float[Tensor, "b a d"]
