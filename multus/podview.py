"""What a call sees of its pod: the pod, its networks, and what is left of them when it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multus import cnitypes
from multus.api.clusterapi import ApiError, CredentialsError, KubeconfigError
from multus.cniargs import parse_args_leniently
from multus.cnitypes import CNIError
from multus.networks import PodNetworks, Selected
from multus.plan import plan_attachments
from multus.pods import Pod, find_pod
from multus.translate import to_cni

if TYPE_CHECKING:
    from multus.api.cluster import Cluster
    from multus.cniargs import K8sArgs
    from multus.delegates import Delegate
    from multus.session import Session


class PodGoneError(Exception):
    """The API server says that there is no such pod (any more)."""


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod with its networks; ``pod`` is None outside Kubernetes."""

    pod: Pod | None
    selected: Selected


def see(session: Session, args: K8sArgs) -> PodView:
    """Ask the API server for the pod and the objects that its annotations name.

    Raises PodGoneError; CNIError and ApiError when any of it cannot be had.
    """
    cluster = _cluster(session)
    pod = None
    if cluster is not None:
        pod = find_pod(cluster, args)
        if pod is None:
            raise PodGoneError
    return PodView(pod, _networks(session, pod, cluster).resolve())


def delegates_for_delete(session: Session) -> tuple[Delegate, ...]:
    """Return what the pod would be given today, for a DEL that found no records; () if unknown.

    A call without a namespace is the runtime's second DEL of a pod, which finds none by nature.
    """
    args = session.args
    if not args.netns:
        return ()
    try:
        cluster = _cluster(session)
        pod = None if cluster is None else find_pod(cluster, parse_args_leniently(args.args))
    except (ApiError, CNIError, ValueError) as error:
        _not_known(session, error)
        return ()
    if pod is None:
        return ()
    try:
        delegates = _networks(session, pod, cluster).resolve().delegates
        # What ADD would have refused has never been attached.
        k8s = parse_args_leniently(args.args)
        plan_attachments(session.conf, list(delegates), args, k8s)
    except (ApiError, CNIError, ValueError) as error:
        _not_known(session, error)
        # What the node itself configures was attached whatever the pod asked for.
        return session.conf.delegates
    return delegates


def default_network(session: Session) -> Delegate:
    """Return the node's default network, the API server being asked whether it is there.

    Raises CNIError, ApiError.
    """
    cluster = _cluster(session)
    if cluster is not None and session.args.command == "STATUS":
        cluster.ready()
    return _networks(session, None, cluster).default_network()


def _cluster(session: Session) -> Cluster | None:
    try:
        return session.doors.connect(session.conf.kubeconfig, session.deadlines.forward)
    except CredentialsError as error:
        raise CNIError(cnitypes.TRY_AGAIN_LATER, f"kubeconfig {error}") from error
    except KubeconfigError as error:
        raise CNIError(cnitypes.INVALID_CONFIG, f"kubeconfig {error}") from error


def _networks(session: Session, pod: Pod | None, cluster: Cluster | None) -> PodNetworks:
    return PodNetworks(
        session.conf,
        None if pod is None else pod.raw,
        cluster,
        None if pod is None else session.doors.devices(pod),
        session.log.problem,
    )


def _not_known(session: Session, error: Exception) -> None:
    message = to_cni(error).msg
    session.log.problem(f"DEL {session.args.container_id} without the cluster's word: {message}")
