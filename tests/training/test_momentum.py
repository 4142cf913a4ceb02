"""The momentum encoder and its queue."""

from collections import deque

import pytest
import torch
from made import refused
from torch import nn

from ltkit import architectures
from ltkit.architectures.network import Network
from ltkit.training.momentum import MomentumEncoder, Queue, projection, width
from ltkit.training.starts import last_block, train_only

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_queue_holds_the_last_keys():
    generator, size = torch.Generator().manual_seed(0), 7
    queue, expected = Queue(size, 2), deque(maxlen=size)
    for number in (3, 3, 3, 1, 7, 2, 5):
        keys = torch.randn(number, 2, generator=generator)
        labels = torch.randint(0, 4, (number,), generator=generator)
        queue.put(keys, labels)
        expected.extend(zip(keys.tolist(), labels.tolist(), strict=True))
        found = zip(queue.keys.tolist(), queue.labels.tolist(), strict=True)
        there = [(key, label) for key, label in found if label >= 0]
        assert sorted(there) == sorted((key, label) for key, label in expected)


def test_a_queue_of_none():
    queue = Queue(0, 2)
    queue.put(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64))
    assert queue.keys.shape == (0, 2)


def test_the_encoder_follows_at_its_pace():
    network = architectures.build("digits_net", 3)
    head = projection(width(network), 4)
    encoder = MomentumEncoder(network.backbone, head, 0.9)
    assert not any(p.requires_grad for p in encoder.parameters())
    encoder.follow(network.backbone, head)
    first = [p.detach().clone() for p in encoder.parameters()]
    with torch.no_grad():
        for p in (*network.backbone.parameters(), *head.parameters()):
            p.add_(1.0)
    for step in (1, 2, 3):
        encoder.follow(network.backbone, head)
        for own, before in zip(encoder.parameters(), first, strict=True):
            torch.testing.assert_close(own - before, torch.full_like(own, 1 - 0.9**step))


def test_it_begins_with_the_network_as_it_is_then():
    """Which another loss may have trained before; once begun, a restored one goes on."""
    network = architectures.build("digits_net", 3)
    head = projection(width(network), 4)
    encoder, restored = (MomentumEncoder(network.backbone, head, 0.9) for _ in range(2))
    network.backbone(torch.randn(8, 1, 8, 8))
    with torch.no_grad():
        for p in network.backbone.parameters():
            p.mul_(2.0)
    encoder.follow(network.backbone, head)
    found, expected = encoder.backbone.state_dict(), network.backbone.state_dict()
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    restored.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for p in network.backbone.parameters():
            p.mul_(2.0)
    for one in (encoder, restored):
        one.follow(network.backbone, head)
    for own, other, theirs in zip(
        encoder.backbone.parameters(), restored.backbone.parameters(),
        network.backbone.parameters(), strict=True,
    ):  # fmt: skip
        assert torch.equal(own, other)
        torch.testing.assert_close(own, 0.55 * theirs)  # 0.9 of half of it, 0.1 of it


def test_keys_have_length_one_and_no_gradient():
    network = architectures.build("digits_net", 3)
    encoder = MomentumEncoder(network.backbone, projection(64, 4), 0.9)
    images = torch.randn(6, 1, 8, 8)
    keys = encoder(images)
    assert not keys.requires_grad
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(6))
    statistics = {k: v.clone() for k, v in network.named_buffers()}
    encoder(images)  # whose statistics are its own
    assert all(torch.equal(v, statistics[k]) for k, v in network.named_buffers())


def test_what_is_held_in_the_network_is_held_in_the_copy():
    network = architectures.build("resnet20", 3)
    head = projection(width(network), 4)
    encoder = MomentumEncoder(network.backbone, head, 0.9)
    train_only(network.backbone, last_block(network.backbone, "resnet20"))
    encoder.follow(network.backbone, head)
    before = {k: v.clone() for k, v in encoder.backbone.named_buffers()}
    encoder(torch.randn(4, 3, 8, 8))
    moved = {k for k, v in encoder.backbone.named_buffers() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if k.startswith("layer3.2.")}


def test_a_network_without_a_head():
    refused(lambda: width(Network(nn.Identity(), None)), "found a network without a head")
