"""Walk a model folder here and in transformers, layer by layer: where do the two first differ, and
by how much?"""

import torch

from model.capture import capture
from model.chat import Chat
from model.checkpoint import find_model, load_model
from model.drawing import Sampling
from model.sampling import generate
from newnews.console import say

PROMPT = "Mathematicians have defined a new operation: x dax y equals x plus twice y. What is 3 dax 4?"


@torch.inference_mode()
def outputs(model, names, ids):
    """{name: output} of the named modules in one forward pass, and the logits, fp32."""
    with capture(model, names) as seen:
        logits = model(ids)
    seen["logits"] = logits if torch.is_tensor(logits) else logits.logits
    return {name: tensor.float() for name, tensor in seen.items()}


def compare(name, dtype="fp32", tokens=32):
    """Print OK or DIFF for the embedding, every block, the final norm, the logits and `tokens` greedy tokens;
    True if all are OK. A difference is noise if its largest entry is below 1e-4 (fp32; bf16: 4e-2) of the
    reference's largest: fp32 sums in another order differ by 1e-6 a layer, a wrong line by 1e-2 or more."""
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        raise ValueError("compare needs transformers, which is in the extra `test`: "
                         "pip install -e '.[test]'") from None
    folder = find_model(name)
    dtype, bound = {"fp32": (torch.float32, 1e-4), "bf16": (torch.bfloat16, 4e-2)}[dtype]
    ours, chat = load_model(folder, dtype=dtype), Chat(folder)
    if ours.note:
        say(warning=ours.note)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    prompt = chat.prompt([{"role": "user", "content": PROMPT}])
    ids = torch.tensor([prompt])
    names = ["model.embed_tokens", *(f"model.layers.{i}" for i in range(ours.config.num_hidden_layers)),
             "model.norm"]
    a, b = outputs(ours, names, ids), outputs(theirs, names, ids)
    fine = True
    print(f"{'':6}{'':28}{'largest difference':>20}{'mean':>12}{'of largest':>14}")
    for part in (*names, "logits"):
        difference = (a[part] - b[part]).abs()
        relative = float(difference.max() / b[part].abs().max())
        ok = relative <= bound
        fine &= ok
        print(f"{'OK' if ok else 'DIFF':6}{part:28}{float(difference.max()):>20.2e}"
              f"{float(difference.mean()):>12.2e}{relative:>14.2e}")
    mine = generate(ours, [prompt], set(), Sampling(tokens, temperature=0))[0].ids
    with torch.inference_mode():
        their = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                                min_new_tokens=tokens, do_sample=False, repetition_penalty=1.0,
                                eos_token_id=None, pad_token_id=0)[0, len(prompt):].tolist()
    first = next((i for i, (x, y) in enumerate(zip(mine, their)) if x != y), None)
    fine &= first is None
    print(f"{'OK' if first is None else 'DIFF':6}{f'{tokens} greedy tokens':28}"
          + ("" if first is None else f"  first at token {first}: {mine[first]} here, {their[first]} there"))
    return fine
