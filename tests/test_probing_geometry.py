"""In-context geometry: graphs, walks and energies by hand; planted representations; mass against softmax."""

import math

import pytest
import torch
from conftest import make_tiny
from probing import CHAT

from model.capture import capture
from newnews.probing import geometry

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name, nodes, edges, degrees", [
    ("grid-3", 9, 12, {2: 4, 3: 4, 4: 1}), ("ring-5", 5, 5, {2: 5}), ("grid-2", 4, 4, {2: 4}),
    ("hex-4", 14, 16, {2: 10, 3: 4}), ("hex-3", 6, 6, {2: 6})])
def test_graphs_by_hand(name, nodes, edges, degrees):
    near = geometry.graph(name)
    found = near.sum(1).tolist()
    assert (len(near), int(near.triu().sum())) == (nodes, edges)
    assert {d: found.count(d) for d in set(found)} == degrees
    assert torch.equal(near, near.T) and not near.diagonal().any()


def test_walks_step_on_edges_and_reach_every_node():
    near = geometry.graph("hex-4")
    nodes = geometry.walks(near, 3, 400)
    assert nodes.shape == (3, 400) and near[nodes[:, :-1], nodes[:, 1:]].all()
    assert set(nodes.flatten().tolist()) == set(range(len(near)))
    assert not torch.equal(nodes[0], nodes[1]) and torch.equal(nodes, geometry.walks(near, 3, 400))


def test_the_energy_is_the_one_by_hand():
    """A square of side 2 and its ring: 4 edges of 4; over all 6 pairs the mean is (4 * 4 + 2 * 8) / 6."""
    X = torch.tensor([[0.0, 0], [2, 0], [2, 2], [0, 2]]).double()
    near = geometry.graph("ring-4")
    relative, null, low = geometry.relative_energy(X, near)
    assert relative == pytest.approx(0.75) and null == pytest.approx(1, abs=0.05) and low >= 0.75 - 1e-12
    X[3] = float("nan")         # a word that no walk has met: two edges and three pairs are left
    assert geometry.relative_energy(X, near)[0] == pytest.approx(1 / (4 / 3))


def test_a_planted_grid_is_seen_and_its_components_are_the_grid():
    near = geometry.graph("grid-4")
    places = torch.cartesian_prod(torch.arange(4.0), 1.3 * torch.arange(4.0)).double()
    frame = torch.linalg.qr(torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).double())[0]
    noise = 0.01 * torch.randn(16, 30, generator=torch.Generator().manual_seed(1)).double()
    X = places @ frame.T + noise
    relative, null, low = geometry.relative_energy(X, near)
    assert relative < 0.5 < 0.8 < low < null == pytest.approx(1, abs=0.03)
    found, shares = geometry.components(X)
    assert float(shares.sum()) > 0.99 and found.shape == (16, 2)
    centred = places - places.mean(0)
    assert torch.allclose(found.abs()[:, [1, 0]], centred.abs(), atol=0.1)
    other = torch.randn(16, 30, generator=torch.Generator().manual_seed(2)).double()
    assert geometry.relative_energy(other, near)[0] > 0.85


def test_node_means_are_over_all_walks():
    states = torch.tensor([[[1.0], [2], [6]], [[3], [4], [5]]])
    X = geometry.node_means(states, torch.tensor([[0, 1, 0], [1, 1, 0]]), 3)
    assert X[:2].flatten().tolist() == [4, 3] and X[2].isnan().all()


def test_following_is_the_neighbours_probability():
    model = make_tiny(seed=4, dtype=torch.float64, vocab_size=1024)
    near = geometry.graph("ring-6")
    nodes, ids = geometry.walks(near, 2, 20), geometry.words(CHAT, 6)
    assert len(set(ids.tolist())) == 6 and all(CHAT.decode([i])[0] == " " for i in ids.tolist())
    states, following, null = geometry.read_walks(model, nodes, ids, near, [1])
    p = model(ids[nodes]).detach().softmax(-1)
    for b in range(2):
        for t in (0, 7, 19):
            i = int(nodes[b, t])
            right = p[b, t, ids[(i + 1) % 6]] + p[b, t, ids[(i - 1) % 6]]
            assert float(following[b, t]) == pytest.approx(float(right), rel=1e-4)
            assert float(null[b, t]) == pytest.approx(float(p[b, t, ids].sum()) / 3, rel=1e-4)
    assert states[1].shape == (2, 20, 24)
    with torch.no_grad(), capture(model, ["layers.1.resid_post"]) as seen:
        model(ids[nodes])
    x = seen["layers.1.resid_post"]
    assert torch.allclose(states[1].double(), x / x.square().mean(-1, keepdim=True).sqrt(), atol=1e-5)


def test_rows_transition_and_exponent():
    model = make_tiny(seed=4, vocab_size=1024)
    rows, maps = geometry.rows(model, CHAT, "grid-3", [0, 1], tokens=40, count=2)
    assert len(rows) == 2 * len(geometry.contexts(40)) and geometry.contexts(40) == [8, 11, 16, 23, 32, 40]
    assert maps[1][0].shape == (9, 2) and len(maps[1][2]) == 9
    assert geometry.transition(rows) is None
    follows = [{"context": c, "following": x} for c, x in ((64, 0.9), (8, 0.6), (16, 0.4), (32, 0.5))]
    assert geometry.transition(follows) == 32 and geometry.transition(follows[2:3]) is None
    sizes = [9, 16, 25]
    assert geometry.exponent(sizes, [5 * n ** 1.7 for n in sizes]) == pytest.approx(1.7)
    assert geometry.exponent([9, 9, 16], [1, 2, 3]) is None and math.isfinite(rows[0]["energy"])


def test_what_is_no_graph_is_refused():
    for name in ("grid-1", "cube-3", "ring-2", "grid", "hex-2"):
        with pytest.raises(ValueError, match="expected grid-K"):
            geometry.graph(name)
    with pytest.raises(ValueError, match="needs as many words of one token"):
        geometry.words(CHAT, 1000)
