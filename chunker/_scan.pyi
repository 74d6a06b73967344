from array import array

from typing_extensions import Buffer

def kernels() -> tuple[str, ...]: ...
def cut(
    kernel: str, rule: Buffer, data: Buffer, next: int, final: bool, ends: array[int], /
) -> tuple[int, int]: ...
def join(
    kernel: str, rule: Buffer, data: Buffer, rest: int, guess: array[int], final: bool, ends: array[int], /
) -> int: ...
