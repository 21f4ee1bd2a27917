"""The key/value cache: one object owns all of its state, and is passed explicitly."""

import torch
import torch.nn.functional as F

CACHE_BYTES = 2 ** 30       # keys and values of the rows that decode together; more rows wait


def rows_at_once(config, tokens, bytes_per_number):
    """How many rows of `tokens` tokens fit CACHE_BYTES: 174 of 500 tokens for Qwen2.5-0.5B in bf16,
    at most 512."""
    row = (2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
           * tokens * bytes_per_number)
    return max(1, min(512, CACHE_BYTES // max(1, row)))


class KVCache:
    """Keys and values of the tokens that B rows have seen; every row has its own length.

    keys, values  (L, B, G, capacity, Dh)  columns at or beyond a row's length are garbage and are masked
    lengths       (B,) int64               tokens that each row holds;
                                           the next token of a row takes this position
    width         int                      no row is longer: a bound on max(lengths) without asking the device

    A call with T tokens writes them to columns lengths[b] .. lengths[b] + T - 1 of row b. Rows padded on the
    right are fine: cut them back with `truncate` afterwards, and the padding will be overwritten.
    """

    def __init__(self, config, rows, capacity, device=None, dtype=None):
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, capacity, config.head_dim)
        # zeros, not empty: softmax gives a masked column weight 0, and 0 * NaN of uninitialised memory is NaN
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self.width = 0
        self.at = None                      # the rows and columns that a call's tokens are written to

    def place(self, T):
        """Where T new tokens go: positions (B, T), and the mask (B, 1, T, S) of what each may see, or None.

        None (square causal, which lets the flash kernels run) only while the cache is empty.
        """
        capacity = self.keys.shape[3]
        if self.width + T > capacity:
            raise ValueError(f"the cache holds {capacity} tokens a row; {self.width} + {T} do not fit")
        device = self.lengths.device
        positions = self.lengths[:, None] + torch.arange(T, device=device)                   # (B, T)
        self.at = torch.arange(len(positions), device=device)[:, None], positions
        if self.width == 0:
            return positions, None
        columns = torch.arange(self.width + T, device=device)
        return positions, (columns <= positions[:, :, None])[:, None]                        # (B, 1, T, S)

    def append(self, layer, k, v):
        """Write k, v (B, G, T, Dh) behind what each row holds, where `place` said; return all keys and
        values, (B, G, S, Dh) each."""
        S = self.width + k.shape[2]
        rows, columns = self.at                                                              # (B, 1), (B, T)
        for store, new in ((self.keys, k), (self.values, v)):
            store[layer].transpose(1, 2)[rows, columns] = new.transpose(1, 2)                # (B, T, G, Dh)
        return self.keys[layer, :, :, :S], self.values[layer, :, :, :S]

    def advance(self, T):
        self.lengths += T
        self.width += T

    def truncate(self, lengths):
        """Forget what lies beyond lengths (B,): right padding, or everything after a shared prefix."""
        self.lengths = torch.as_tensor(lengths, device=self.lengths.device).clone()
        self.width = int(self.lengths.max())

    def select(self, rows):
        """A new cache with these rows (int64, any length): repeat one for many samples,
        or drop the finished."""
        new = object.__new__(KVCache)
        new.keys, new.values, new.lengths = self.keys[:, rows], self.values[:, rows], self.lengths[rows]
        new.width = int(new.lengths.max())          # the longest row may have left
        return new

    def join(self, other):
        """A new cache with the rows of both, these first, and the room of the larger one."""
        new = object.__new__(KVCache)
        capacity = max(self.keys.shape[3], other.keys.shape[3])

        def both(mine, theirs):
            padded = [F.pad(store, (0, 0, 0, capacity - store.shape[3])) for store in (mine, theirs)]
            return torch.cat(padded, 1)

        new.keys, new.values = both(self.keys, other.keys), both(self.values, other.values)
        new.lengths = torch.cat((self.lengths, other.lengths))
        new.width = max(self.width, other.width)
        return new
