"""left_pod.py make | try HANDLER | end POD CONTAINER: a pod of Dolium's, and what becomes of it when containerd does not know its runtime.

It runs in the machine of the tests, beside pods.py."""

import sys

from cri import call, without_groups
from pods import SLEEP, Pod, execute, refusal, spaces


def main(verb: str, *words: str) -> None:
    if verb == "make":
        pod = Pod("dolium", "left", {1: spaces()})
        print(pod.id, pod.run(SLEEP))
    elif verb == "try":
        print(refusal(Pod, words[0], "new", {1: spaces()}).rpartition("for ")[2])
    else:
        pod_id, container = words
        print(execute(container, "echo in"))
        for name, asked in (("StopContainer", {1: container, 2: 10}), ("RemoveContainer", {1: container}), ("StopPodSandbox", {1: pod_id}), ("RemovePodSandbox", {1: pod_id})):
            call(name, asked)
        without_groups()


if __name__ == "__main__":
    main(*sys.argv[1:])
