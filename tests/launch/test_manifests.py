"""The Kubernetes manifests: names that must match, and what jax and the exit codes require.

The fields themselves were checked against the JobSet v1alpha2 definition of kubernetes-sigs/jobset
(config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml at commit 0a2be5c) and the models of the
`kubernetes` client 37.0.2; what is here is what those do not know.
"""

import pathlib
from typing import Any

import pytest
import yaml

K8S = pathlib.Path(__file__).parents[2] / "launch" / "k8s"


@pytest.fixture(scope="module")
def job_set() -> dict[str, Any]:
    return yaml.safe_load((K8S / "jobset.yaml").read_text())


@pytest.fixture(scope="module")
def job(job_set) -> dict[str, Any]:
    """The one job of the set."""
    (replicated,) = job_set["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


@pytest.fixture(scope="module")
def pod(job) -> dict[str, Any]:
    return job["template"]["spec"]


@pytest.fixture(scope="module")
def access() -> dict[str, dict[str, Any]]:
    """The objects of service_account.yaml by their kind."""
    return {
        each["kind"]: each
        for each in yaml.safe_load_all((K8S / "service_account.yaml").read_text())
    }


def test_jax_finds_the_processes(job_set, job):
    """It counts the pods of one indexed job and calls the first JOB-0.JOBSET."""
    assert job_set["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert job_set["kind"] == "JobSet"
    network = job_set["spec"]["network"]
    assert network["enableDNSHostnames"] is True
    assert network["publishNotReadyAddresses"] is True
    assert network.get("subdomain", job_set["metadata"]["name"]) == job_set["metadata"]["name"]
    (replicated,) = job_set["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] > 1
    # A host's name: the job, its index, the pod's index.
    host = f"{job_set['metadata']['name']}-{replicated['name']}-0-{job['completions'] - 1}"
    assert len(host) <= 63


def test_the_coordinators_port_is_the_one_of_jax(pod):
    clusters = pytest.importorskip("jax._src.clusters.k8s_cluster")
    (container,) = pod["containers"]
    ports = [str(port["containerPort"]) for port in container["ports"]]
    assert ports == [clusters.K8sCluster._coordinator_port]


def test_the_service_account_may_read_what_jax_reads(pod, access):
    name = pod["serviceAccountName"]
    assert access["ServiceAccount"]["metadata"]["name"] == name
    binding, role = access["RoleBinding"], access["Role"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name}]
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": role["metadata"]["name"],
    }
    may = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    # jax/_src/clusters/k8s_cluster.py: list_namespaced_pod, list_namespaced_service and
    # read_namespaced_job.
    assert may == {("", "pods", "list"), ("", "services", "list"), ("batch", "jobs", "get")}


def test_what_ends_the_job_and_what_starts_it_again(job_set, job, pod):
    policy = job_set["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    # A rule of the set catches what a rule of the job has named.
    assert [(rule["action"], rule["onJobFailureReasons"]) for rule in policy["rules"]] == [
        ("FailJobSet", ["PodFailurePolicy"])
    ]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    codes = rule["onExitCodes"]
    assert codes["operator"] == "In"
    assert codes["values"] == [1, 2, 130]  # launch/README.md
    assert codes["containerName"] in [container["name"] for container in pod["containers"]]
    # A single pod must not be started again: its process is part of a job that is gone.
    assert job["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"


def test_sigterm_reaches_python_and_leaves_time(pod):
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "rcnn_jax.train"]
    assert all(isinstance(argument, str) for argument in container["args"])
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_volumes_match(pod):
    (container,) = pod["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    workdir = next(a for a in container["args"] if a.startswith("--workdir="))
    assert workdir.removeprefix("--workdir=").startswith(mounted["runs"] + "/")
