"""One probing from start to end: learn a news item, then ask where it went. python docs/probe_by_hand.py"""

import sys
from pathlib import Path

import torch
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from model.lora import add_lora, gated                                                      # noqa: E402
from model.loss import token_losses                                                         # noqa: E402
from newnews.loading import load                                                            # noqa: E402
from newnews.news import read_news                                                          # noqa: E402
from newnews.probing import asked, gate, spectrum, updates                                  # noqa: E402
from newnews.prompts import prompts_for                                                     # noqa: E402

# 1. A model and a news item. Every question with all its options is one batch; adapter 0 is the tuned model.
model, chat, about = load(ROOT / "data/pocket")
item = next(i for i in read_news(ROOT / "data/pocket_news.yaml") if i.id == "discoveries-kimot")
batch = asked.asked(chat, prompts_for(about["folder"]), item)
add_lora(model, rank=4, alpha=8)

# 2. Learn the right answers: 15 steps on all of them.
right = batch.only_right()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
for step in range(15):
    loss = token_losses(model.model(right.ids)[right.answer], right.targets, model.lm_head).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# 3. How large is the update, and in how many directions? Print the largest module.
largest = max(spectrum.rows(updates.updates_of(model)), key=lambda row: row["norm"])
print("largest module", {key: largest[key] for key in ("layer", "module", "norm", "effective_rank")})

# 4. Where does it act? The adapter switched on at one site only, in all layers.
for adapter, name in ((-1, "base"), (0, "tuned")):
    print(f"{name:9}", asked.measure(model, batch, adapter))
for site, positions in batch.sites.items():
    with gated(model, gate.gates(model, positions, range(model.config.num_hidden_layers))):
        print(f"{site:9}", asked.measure(model, batch, 0))
