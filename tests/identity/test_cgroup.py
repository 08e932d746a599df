"""Every shape of cgroup path seen in the wild."""

from __future__ import annotations

import pytest

from flowobs.identity import cgroup
from flowobs.identity.cgroup import CONTAINER, GUEST, UNIT, Place, PodPlace

CID = "0123456789ab" + "cdef" * 13
OUTER = "f" * 64
UID_ = "1b2c3d4e_1111_2222_3333_444455556666"
UID = UID_.replace("_", "-")
CFG = "0f" * 16
BURST = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
INSIDE = Place(CONTAINER, "0123456789ab")

SHAPES = [
    (f"{BURST}{UID_}.slice/cri-containerd-{CID}.scope", INSIDE),
    (f"/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{CID}.scope", INSIDE),
    (f"{BURST}{CFG}.slice/cri-containerd-{CID}.scope", INSIDE),
    (f"{BURST}{CFG}.slice/cri-containerd-{CID}", INSIDE),
    (f"/kubepods/burstable/pod{UID}/{CID}", INSIDE),
    (f"/kubepods/pod{UID}/{CID}", INSIDE),
    (f"/kubepods/pod{UID}/{CID}/kube-proxy", INSIDE),
    (
        f"/system.slice/containerd.service/kubepods-besteffort-pod{UID_}.slice:cri-containerd:{CID}",
        INSIDE,
    ),
    (f"{BURST}{UID_}.slice/crio-{CID}.scope", INSIDE),
    (f"{BURST}{UID_}.slice/crio-{CID}.scope/container", INSIDE),
    (f"/kubepods/pod{UID}/crio-{CID}", INSIDE),
    (f"{BURST}{UID_}.slice/crio-conmon-{CID}.scope", Place()),
    (f"{BURST}{UID_}.slice/docker-{CID}.scope", INSIDE),
    (f"/kubepods/besteffort/pod{UID}/{CID}", INSIDE),
    (f"/docker/{CID}", INSIDE),
    (f"/system.slice/docker-{CID}.scope", INSIDE),
    (
        f"/docker/{OUTER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
        f"kubelet-kubepods-besteffort-pod{UID_}.slice/cri-containerd-{CID}.scope",
        INSIDE,
    ),
    (f"/../cri-containerd-{CID}.scope", INSIDE),
    (f"/../../pod{CFG}/{CID}", INSIDE),
    (f"/../../../../system.slice/docker-{CID}.scope", INSIDE),
    (f"/system.slice/docker-{OUTER}.scope/kubepods/burstable/pod{UID}/{CID}", INSIDE),
    ("/podruntime/kubelet", Place("TalosService", "kubelet")),
    ("/system/apid", Place("TalosService", "apid")),
    ("/init", Place()),
    ("/lxc/build", Place(CONTAINER, "build")),
    ("/lxc.payload.build/system.slice/nginx.service", Place(CONTAINER, "build")),
    ("/system.slice/nginx.service", Place(UNIT, "nginx.service")),
    ("/runtime.slice/kubelet.service", Place(UNIT, "kubelet.service")),
    ("/reserved.slice/kubelet.service", Place(UNIT, "kubelet.service")),
    ("/kube.slice/containerd.service", Place(UNIT, "containerd.service")),
    ("/podruntime.slice/containerd.service", Place(UNIT, "containerd.service")),
    ("/azure.slice/walinuxagent.service", Place(UNIT, "walinuxagent.service")),
    (r"/system.slice/my\x2dapp.service", Place(UNIT, "my-app.service")),
    ("/system.slice/system-getty.slice/getty@tty1.service", Place(UNIT, "getty@tty1.service")),
    ("/system.slice/foo.service/workers/3", Place(UNIT, "foo.service")),
    (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope", Place(UNIT, "machine-qemu-1-vm.scope")),
    ("/user.slice/user-1000.slice/session-3.scope", Place()),
    (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service",
        Place(UNIT, "syncthing.service"),
    ),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope", Place()),
    ("/init.scope", Place()),
    (f"/machine.slice/libpod-{CID}.scope", INSIDE),
    (f"/machine.slice/libpod-conmon-{CID}.scope", Place()),
    (f"/user.slice/user-0.slice/user@0.service/user.slice/libpod-{CID}.scope", INSIDE),
    (f"/kubepods.slice/kubepods-pod{UID_}.slice/kata_overhead", Place(GUEST, "kata")),
    (f"/kata_overhead/{CID}", Place(GUEST, "0123456789ab")),
    (f"/kubepods.slice/kubepods-pod{UID_}.slice", Place()),
    (f"/docker/{CID}0", Place()),
    ("/", Place()),
    ("", Place()),
]


@pytest.mark.parametrize(("path", "place"), SHAPES)
def test_a_path_names_its_innermost_container_or_unit(path: str, place: Place) -> None:
    assert cgroup.parse(path) == place


@pytest.mark.parametrize("path", [path for path, _ in SHAPES])
def test_a_path_of_kubernetes_tells_its_innermost_pod(path: str) -> None:
    """Every shape with a pod in it: its uid or hash, and the container, if there is one."""
    pod = UID if UID in path or UID_ in path else CFG if CFG in path else ""
    container = CID if CID in path and "conmon" not in path else ""
    assert cgroup.parse_pod(path) == (PodPlace(pod, container) if pod else None)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0::/system.slice/sshd.service\n", Place(UNIT, "sshd.service")),
        (f"9:name=systemd:/docker/{CID}\n3:cpuset:/docker/{CID}\n0::/\n", INSIDE),
        (f"4:memory:/docker/{OUTER}\n3:cpu:/kubepods/pod{UID}/{CID}\n0::/\n", INSIDE),
        (f"4:memory:/docker/{CID}\n0::/system.slice/containerd.service\n", INSIDE),
        (
            "4:memory:/system.slice/a.service\n0::/system.slice/b.service\n",
            Place(UNIT, "b.service"),
        ),
        ("4:memory:/system.slice/a.service\n0::/\n", Place(UNIT, "a.service")),
        ("0::/\n", Place()),
        ("", Place()),
        ("nonsense", Place()),
    ],
)
def test_a_process_is_where_most_is_known_of_it(text: str, place: Place) -> None:
    assert cgroup.parse_process(text) == place
