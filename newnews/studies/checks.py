"""What a study needs before hours of work: its own folder, its models, what its protocols take from other
news, neutral texts. Every mistake that can be found here is one line."""

from hashlib import sha256
from pathlib import Path

from model.checkpoint import find_model, load_config
from model.files import read_json
from newnews.console import in_words
from newnews.identity import model_digest
from newnews.neutral import LESSONS
from newnews.news import check_asked
from newnews.outputs import check_out, differing, manifest_of, read_manifest
from newnews.prompts import prompts_for, source_of
from newnews.protocols import protocols
from newnews.reading import shown
from newnews.replay import read_conversations
from newnews.studies.summary import Finished
from newnews.studies.ways import KL, task_of
from newnews.tasks.news import WAYS

SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "head_dim")     # models of one shape can wear each other's adapters


def check_study(out, study, store=None):
    """The folder of a study: a new one, one with nothing but stages in it, or one of this very study. Another
    study's is refused: its table and page are somebody's results."""
    out = check_out(out, "folder")
    index = read_json(out / "study.json") if (out / "study.json").is_file() else {}
    stages = {"replay", "updates", "answers", "study.json.part", "study.json.lock"}
    others = sorted({path.name for path in out.iterdir()} - stages if out.exists() else ())
    if others and not ("cells" in index and isinstance(index.get("study"), dict)):
        raise ValueError(f"{out}: is there already, holds {shown(others[0])} and is no study of ours (its "
                         f"study.json says so); write elsewhere")
    before = index.get("study", study)
    if before != study:
        raise another(out, store, f"differs in {', '.join(differing(before, study))}")
    return out


def another(out, store, why):
    return ValueError(f"{out}: holds the results of another study ({why}); write elsewhere, with --store "
                      f"{store or out} to share what both have in common")


def sources_of(study, folders):
    """{what a study is made of, apart from its news: its digest}: the prompts and weights of all models, and
    neutral texts."""
    files = {f"the prompts of {name}": source_of(folder) for name, folder in folders.items()}
    if (neutral := study.get("neutral", {}).get("source", LESSONS)) != LESSONS:
        files[f"the neutral texts {neutral}"] = Path(neutral)
    return {**{f"the weights or the tokenizer of {name}": model_digest(folder)
               for name, folder in folders.items()},
            **{what: sha256(file.read_bytes()).hexdigest() for what, file in files.items()}}


def check_unchanged(out, study, store, folders):
    """That the results in a study's folder, if there are any, are about the prompts, weights, neutral texts
    and news of today."""
    index = read_json(out / "study.json") if (out / "study.json").is_file() else {}
    check_asked_alike(out, index, store, folders)
    before = index.get("sources", {})               # results of before 2026-11-27 have none
    for what, found in sources_of(study, folders).items() if before else ():
        if found != before.get(what, found):
            raise another(out, store, f"{what} were changed since")


def check_asked_alike(out, index, store, folders):
    """So it is asked: of the base models, whose answers lie there, and of the news. Accepted answers may have
    changed: verdicts are made anew. So is what is missing, after a kill or by hand."""
    prompts = index.get("prompts")
    if not isinstance(prompts, dict) or not all(model in folders and (out / file).is_file()
                                                for model, file in prompts.items()):
        return
    for model, file in prompts.items():
        if (out / file).read_bytes() != source_of(folders[model]).read_bytes():
            raise another(out, store,
                          f"the prompts of {model}, {source_of(folders[model])}, were changed since")
    done = Finished(out)
    for model, way, file in [(model, way, out / file) for model in prompts
                             for way, file in done.index["base"].get(model, {}).items()]:
        if not file.is_file() or not manifest_of(file).is_file():
            continue
        run = read_manifest(file)["run"]
        if run.get("model") != model_digest(folders[model]):
            raise another(out, store, f"the weights or the tokenizer of {model} were changed since")
        if way != KL and run.get("requests") != done.asked[model, way]:
            raise another(out, store, "the news, questions or options were changed since")


def check_models(every, study, items):
    """{model: folder} of all that write or learn, before hours of work: each is there, and its prompts say
    how to ask in every format and, of those that write, for all that a protocol wants. So are the news: each
    can be asked about, and has beside it what a protocol takes from other news; and neutral texts."""
    check_asked(items)
    folders, configs = {}, {}
    for name in dict.fromkeys(name for cell in every for name in (cell.model, cell.learner, cell.writer)):
        folders[name] = find_model(name)
        configs[name] = load_config(folders[name])
    for name in dict.fromkeys(cell.model for cell in every):
        try:
            task_of(WAYS[0], study, prompts_for(folders[name])).requests(items[0])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    for cell in every:
        kind = protocols(None)[cell.protocol]
        for field in [field for written in kind.sources for field in written.words]:
            prompts_for(folders[cell.writer]).said(field)
        kind.choose({item.id: [] for item in items}, items)         # says so where none has what it takes
        check_shapes(cell, *(configs[name] for name in (cell.learner, cell.model)))
    wanted = [study["neutral"]["source"]] if KL in study.get("also", ()) else []
    for name in dict.fromkeys([*wanted, *(cell.neutral[1] for cell in every if cell.neutral)]):
        if name != LESSONS:
            try:
                read_conversations(name)
            except (OSError, ValueError) as error:
                raise ValueError(f"neutral: source: {in_words(error)}") from None
    return folders


def check_shapes(cell, learner, model):
    """The adapter's blocks are there, and the model that wears it has the learner's shape."""
    blocks = cell.lora[3:] and cell.lora[3]
    if blocks and blocks[1] >= learner.num_hidden_layers:
        raise ValueError(f"lora: layers: {cell.learner} has the blocks 0 to {learner.num_hidden_layers - 1}; "
                         f"found {list(blocks)}")
    for key in SHAPE:
        its, mine = (getattr(config, key) for config in (learner, model))
        if its != mine:
            raise ValueError(f"learner: expected a model of the shape of {cell.model}, {key} {mine}; "
                             f"{cell.learner} has {its}")
