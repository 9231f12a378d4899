"""The attention of one reader over its set, and what is hidden from it in training."""

import torch
from torch import Tensor
from torch.nn import functional

from forecast.model.scene_attention import SetAttention


def every_member_projected(attend: SetAttention, packed: Tensor, members: Tensor) -> Tensor:
    """The textbook's order: keys and values of every member, then the softmax."""
    encoded = torch.relu(attend.member(members))
    count, _, hidden = encoded.shape

    def split(x: Tensor) -> Tensor:
        return x.view(count, -1, attend.heads, hidden // attend.heads).transpose(1, 2)

    query = attend.query(attend.norm(packed))
    read = functional.scaled_dot_product_attention(
        split(query), split(attend.key(encoded)), split(attend.value(encoded))
    )
    out: Tensor = packed + attend.out(read.transpose(1, 2).reshape(count, hidden))
    return out


def attention() -> SetAttention:
    torch.manual_seed(0)
    attend = SetAttention(dim=32, features=5, hidden=16).eval()
    for parameter in attend.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return attend


def test_projecting_for_the_reader_equals_projecting_every_member() -> None:
    attend, packed, members = attention(), torch.randn(7, 32), torch.randn(7, 11, 5)
    ours = attend(packed, members, torch.ones(7, 11, dtype=torch.bool))
    torch.testing.assert_close(ours, every_member_projected(attend, packed, members))


def test_what_is_not_valid_is_not_read_and_an_empty_set_says_nothing() -> None:
    attend, packed, members = attention(), torch.randn(2, 32), torch.randn(2, 11, 5)
    valid = torch.zeros(2, 11, dtype=torch.bool)
    valid[0, :4] = True
    ours = attend(packed, members, valid)
    few = every_member_projected(attend, packed[:1], members[:1, :4])
    torch.testing.assert_close(ours[:1], few)
    torch.testing.assert_close(ours[1], packed[1] + attend.out.bias)


def test_dropout_hides_members_in_training_only() -> None:
    attend, packed, members = attention(), torch.randn(1, 32), torch.randn(1, 11, 5)
    valid = torch.ones(1, 11, dtype=torch.bool)
    attend.hide.p = 0.5
    assert torch.equal(attend(packed, members, valid), attend(packed, members, valid))
    attend.train()
    assert not torch.equal(attend(packed, members, valid), attend(packed, members, valid))
