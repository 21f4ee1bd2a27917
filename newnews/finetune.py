"""Fine-tune on conversations: from rows to examples, to an adapter, a bank of adapters, or a whole model
on disk."""

from dataclasses import asdict

from model.checkpoint import save_adapter, save_model
from model.lora import add_lora, remove_lora
from newnews.console import say
from newnews.loading import default_rate, load, parameters
from newnews.outputs import build_folder, digest
from newnews.protocols import read_replay
from newnews.training import Recipe, Shuffled, train


def examples(rows, chat, config, where):
    """Rows of a replay file -> [(ids, weights)]; one that does not fit the model's context is an error
    with its number."""
    out = []
    for i, row in enumerate(rows, 1):
        ids, weights = chat.conversation(row["messages"])
        if len(ids) > config.max_position_embeddings:
            raise ValueError(f"{where}: conversation {i} has {len(ids)} tokens; the model's context is "
                             f"{config.max_position_embeddings}")
        out.append((ids, weights))
    return out


def train_bank(out, model, lists, names, recipe, lora, run, base, label):
    """One adapter for each list of examples, side by side; OUT/NAME is the PEFT folder of each.
    Returns the manifest.

    lora: {"rank", "alpha", "targets"}. Adapter k starts from, and draws its data by, the seed
    recipe.seed + k.
    """
    def fill(work, result):
        seeds = [recipe.seed + k for k in range(len(lists))]
        add_lora(model, lora["targets"], lora["rank"], lora["alpha"], seeds)
        try:
            done = train(model, Shuffled(lists, recipe.batch, seeds), recipe, work, digest(run), label)
            result.mkdir()
            for k, name in enumerate(names):
                save_adapter(result / name, model, k, base)
        finally:
            remove_lora(model)
        return done

    return build_folder(out, run, fill)


def finetune(args):
    """What train.py does; args are its arguments."""
    rows = read_replay(args.data)
    model, chat, about = load(args.model, None, args.device, args.dtype)
    data = examples(rows, chat, model.config, args.data)
    steps = max(40, 4 * -(-len(data) // max(1, args.batch))) if args.steps is None else args.steps
    rate = default_rate(parameters(model), args.full) if args.rate is None else args.rate
    recipe = Recipe(steps=steps, rate=rate,
                    batch=args.batch, warmup=steps // 10 if args.warmup is None else args.warmup,
                    schedule=args.schedule, weight_decay=args.weight_decay, clip=args.clip,
                    micro_tokens=args.micro_tokens, seed=args.seed)
    targets = [t.strip() for t in args.targets.split(",")]
    alpha = 2 * args.lora_rank if args.lora_alpha is None else args.lora_alpha
    run = {"model": about["model"], "model_digest": about["digest"],
           "data": digest([r["messages"] for r in rows]),
           "dtype": about["dtype"], "recipe": asdict(recipe), "full": args.full}
    if not args.full:
        run["lora"] = {"rank": args.lora_rank, "alpha": alpha, "targets": targets}
    say(**about,
        data=f"{len(data)} conversations from {args.data}, {sum(len(ids) for ids, _ in data):,} tokens",
        trained="all weights" if args.full else
                f"LoRA rank {args.lora_rank}, alpha {alpha:g}, on {', '.join(targets)}",
        recipe=f"{steps} steps of {min(args.batch, len(data))}, rate {recipe.rate:g}, {recipe.schedule}, "
               f"{recipe.warmup} warm-up", seed=args.seed, out=args.out)

    if not args.full:
        add_lora(model, targets, args.lora_rank, alpha, [args.seed])

    def fill(work, result):
        done = train(model, Shuffled([data], recipe.batch, [args.seed]), recipe, work, digest(run), "train")
        if args.full:
            save_model(result, model.config, model.state_dict(), source=about["folder"])
        else:
            save_adapter(result, model, 0, about["model"])
        return done

    done = build_folder(args.out, run, fill)
    stopped = f"; stopped at step {done['stopped']['0']}: the loss was not finite" if done["stopped"] else ""
    print(f"{args.out}: {done['tokens']:,} tokens in {done['steps']} steps, "
          f"last loss {done['loss'][0]}{stopped}")
