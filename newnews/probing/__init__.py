"""PROBE: where the news went. One file a kind; each kind is a function of modules and tensors; report_*.py
make rows, tables and pictures of them, chat.py answers one prompt as base, tuned and amplified.

This file holds what the command line needs, and imports no torch until a probe runs.
"""

KINDS = {"spectrum": "norms, ranks, singular values, intruder dimensions",
         "compare": "cosines and principal angles with the updates of --against",
         "readout": "the news read back out of the update (needs --news and --id)",
         "gate": "log-odds of the right answer with the adapter at some positions, layers, modules only",
         "transplant": "the same with parts of the update kept, removed, scaled, cut to a rank, averaged",
         "lens": "probability and rank of the right answer by layer, for reading and for having learnt",
         "patch": "which activations carry the answer from one run to another",
         "context": "the weight patch that the news in context is worth, against the update",
         "heads": "induction, retrieval and reading scores of every head, before and after",
         "knockout": "log-odds with the news in context when attention to it is cut",
         "shadow": "loss and gradient of replay tokens, with the news before them and without",
         "geometry": "do words take the shape of the graph that a walk goes over (needs no update)"}

# the column that a kind's one-sentence reading is about, and those that hold its labels (output.reading)
READ = {"spectrum": ("intruder_energy", "update"), "compare": ("cosine", "with"),
        "readout": ("recall", "update"), "gate": ("gain", "update"), "transplant": ("gain", "how"),
        "lens": ("probability", "run"), "patch": ("gain", "pair"), "context": ("moved", "context", "update"),
        "heads": ("change_reading", "run"), "knockout": ("change", "run"), "shadow": ("cosine",),
        "geometry": ("following", "run")}


def add_parsers(tools):
    """The tools `probe` and `chat` of `python -m newnews`."""
    what = "; ".join(f"{name}: {what}" for name, what in KINDS.items())
    probe = tools.add_parser("probe", help="open up a weight update: where it sits, when it acts",
                             epilog=f"KIND: {what}")
    probe.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    probe.add_argument("--model", required=True, help="the base: model folder or hub id")
    what = probe.add_mutually_exclusive_group()
    what.add_argument("--adapter", help="PEFT folder of the LoRA adapter to open up")
    what.add_argument("--tuned", metavar="MODEL",
                      help="or a fully tuned model: its difference from --model, as an adapter of full rank")
    probe.add_argument("--against", nargs="+", default=[], metavar="ADAPTER",
                       help="other adapters (or tuned models) beside it, e.g. another protocol's, same news")
    probe.add_argument("--null", nargs="+", default=[], metavar="ADAPTER",
                       help="unrelated adapters (or models): nulls, beside the random twin of every reading")
    probe.add_argument("--news", metavar="FILE", help="YAML of the news that the update is about")
    probe.add_argument("--id", help="id of the news item in it")
    probe.add_argument("--out", required=True, metavar="DIR", help="folder for KIND.csv and KIND.png")
    probe.add_argument("--only", nargs="+", metavar="NAME",
                       help='modules of the update: layers ("3"), names ("q_proj", "mlp") or shell patterns')
    probe.add_argument("--layers", nargs="+", type=int, metavar="L",
                       help="layers to look at, where a kind looks at layers (default: that kind's)")
    probe.add_argument("--in-context", action="store_true",
                       help="ask with the news before the question (gate, transplant; default: closed book)")
    probe.add_argument("--replay", metavar="FILE",
                       help="replay file whose first elements shadow reads (default: the item's questions)")
    probe.add_argument("--graphs", nargs="+", metavar="NAME",
                       help="geometry: grid-K, ring-N, hex-K (default: grid-3 grid-4 grid-5 ring-10)")
    probe.add_argument("--tokens", type=int, help="geometry: length of a walk (default: 512)")
    probe.add_argument("--walks", type=int, help="geometry: walks a graph (default: 4)")
    chat = tools.add_parser("chat", help="one prompt answered side by side by base, tuned and amplified")
    chat.add_argument("--model", required=True, help="the base: model folder or hub id")
    chat.add_argument("--adapter", required=True, help="PEFT folder of a LoRA adapter for it")
    chat.add_argument("--say", metavar="TEXT", help="answer this and end (default: read lines until Ctrl-D)")
    chat.add_argument("--amplify", type=float, default=1.0, metavar="A",
                      help="amplified = tuned + A (tuned - base), in logits (default: %(default)s)")
    chat.add_argument("--max-new-tokens", type=int, default=64, help="(default: %(default)s)")
    for parser in (probe, chat):
        parser.add_argument("--device", default="auto", help="(default: %(default)s)")
        parser.add_argument("--dtype", default="auto", help="fp32, bf16 or auto (default: %(default)s)")


def run(args):
    """Execute what `add_parsers` parsed."""
    if args.tool == "chat":
        from newnews.probing.chat import chat
        chat(args)
    else:
        from newnews.probing.command import probe
        probe(args)
