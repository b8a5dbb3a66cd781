"""Two processes count to a hundred million together: local increments, added up under a semaphore."""

import multiprocessing
import sys
import time

import onecopy as oc


def count(times: int, total, semaphore: oc.Semaphore) -> None:
    mine = 0
    for _ in range(times):
        mine += 1
    with semaphore:  # two processes that add at the same time would lose one of the sums
        total.value += mine


def main(times: int = 50_000_000) -> None:
    total, semaphore = oc.RawValue("q"), oc.Semaphore(1)
    workers = [multiprocessing.Process(target=count, args=(times, total, semaphore)) for _ in range(2)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{total.value:,} in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
