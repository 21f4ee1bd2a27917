"""Several processes as one: what training, writing and asking need of torch.distributed.

torchrun starts the processes, `group` joins them; a process by itself is a world of one, in which nothing
happens here. Rank 0 alone speaks, and writes what is shared (newnews/together.py). Training is replicated
(every process has the whole model, gradients are added up once a step) or sharded (`shard`, torch's FSDP2:
every process keeps 1/world of each tensor; gradients come back already added up).
"""

import os
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

BUCKET = 2 ** 24        # numbers added up in one call, 64 MB of fp32 beside the gradients; a larger tensor
                        # goes by itself


def own_gpu(device):
    """Give each of torchrun's processes a GPU of its own, which "cuda" then means. False if they use none."""
    if "LOCAL_RANK" in os.environ and ":" in device:
        raise ValueError(f"--device {device}: under torchrun every process takes a GPU of its own; say cuda")
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    place = int(os.environ.get("LOCAL_RANK", 0))
    if cuda and place >= torch.cuda.device_count():
        raise ValueError(f"more than {place} processes and {torch.cuda.device_count()} GPUs: expected at "
                         f"most one process a GPU (torchrun --nproc-per-node)")
    if cuda:
        torch.cuda.set_device(place)
    return cuda


@contextmanager
def group(device="auto"):
    """Within the block this process is one of those that torchrun started, if torchrun started it: over gloo
    on CPUs, nccl on GPUs, each process with a GPU of its own."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        yield
        return
    # one may wait long for the others' share of the work; torchrun ends all if one fails
    dist.init_process_group("cpu:gloo,cuda:nccl" if own_gpu(device) else "gloo", timeout=timedelta(days=7))
    yield
    dist.destroy_process_group()        # not after an error: the others may be in the middle of a sum


def world():
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank():
    return dist.get_rank() if world() > 1 else 0


def told(value=None):
    """What rank 0 calls this with, in every process."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def wait():
    """Until all processes are here."""
    add_up([torch.zeros(1)])


def add_up(tensors):
    """Replace each tensor by its sum over all processes, some at a time in one call."""
    while world() > 1 and tensors:
        n = int(np.searchsorted(np.cumsum([t.numel() for t in tensors]), BUCKET, side="right")) or 1
        some, tensors = tensors[:n], tensors[n:]
        flat = torch.cat([t.flatten() for t in some])
        dist.all_reduce(flat)
        for tensor, part in zip(some, flat.split([t.numel() for t in some])):
            tensor.copy_(part.view_as(tensor))


def shard(model, device):
    """Split every weight over all processes, block by block: torch gathers a block's weights while they are
    needed, and adds up gradients in fp32. Adapters are small: each process has them whole. Gradients are
    sums, not torch's means, since a step's loss is divided by its weight over all processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    adapters = {p for name, p in model.named_parameters() if name.endswith(("lora_A", "lora_B"))}
    for p in adapters:
        p.data = p.data.to(device)
    mesh = init_device_mesh(torch.device(device).type, (world(),))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for module in (*model.model.layers, model):
        fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=adapters)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)      # gloo has no other
    return model


def is_sharded(tensor):
    return hasattr(tensor, "placements")                    # a DTensor; asking for its class imports it


def local(tensor):
    """This process's part of a sharded tensor; any other tensor itself. They share memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def my_rows(n):
    """(first, behind the last) of the rows of an n-row tensor that `local` has here."""
    each = -(-n // world())                                 # the last processes may have fewer, or none
    return min(n, rank() * each), min(n, (rank() + 1) * each)


def whole(tensor, like=None):
    """All rows of a sharded tensor, or of the local tensor that is laid out as the sharded parameter `like`,
    on the CPU; any other tensor itself. So at rank 0, None elsewhere. Every process must call it."""
    if like is not None and is_sharded(like):
        tensor = type(like).from_local(tensor, like.device_mesh, like.placements, run_check=False,
                                       shape=like.shape, stride=like.stride())
    if is_sharded(tensor):
        tensor = tensor.full_tensor()
        tensor = tensor.cpu() if rank() == 0 else tensor        # seven of eight copies would be thrown away
    return tensor if rank() == 0 else None
