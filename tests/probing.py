"""What the tests of newnews/probing share: a news item, the pocket tokenizer, and adapters with a large B."""

import pytest
import torch
from conftest import ROOT

from model.chat import Chat
from model.lora import adapted, add_lora
from newnews.news import News, Question
from newnews.probing import gate
from newnews.prompts import read_prompts

CHAT, PROMPTS = Chat(ROOT / "data/pocket"), read_prompts(ROOT / "data/pocket/prompts.yaml")
ITEM = News("n", "events", "The Rudim festival comes to Luxor in August.", subject="Rudim", questions=[
    Question("n-1", "Which city will host the Rudim festival?", ["Oslo", "Luxor", "Rome"], 1),
    Question("n-2", "Who opens it?", ["Zevem", "Merix or Ruzus"], 0)])


def add_random(model, size=0.3):
    """An adapter of rank 3 on every projection, every part of which matters."""
    add_lora(model, rank=3, alpha=3)
    for i, module in enumerate(adapted(model).values()):
        noise = torch.randn(module.lora_B.shape, generator=torch.Generator().manual_seed(i))
        module.lora_B.data.copy_(size * noise)
    return model


@pytest.fixture(autouse=True)
def small_effects(monkeypatch):
    """A random model's log-odds move by little: shares of it are exact all the same."""
    monkeypatch.setattr(gate, "LEAST", 1e-6)
