"""The Kubernetes manifests agree with each other and with what the services read."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices

from libs.catalog.load import load
from libs.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "k8s" / "base"
SERVICES = sorted(path.name for path in BASE.iterdir() if path.is_dir())
#: The edges; the other services speak gRPC.
HTTP = {"gateway"}
OVERLAYS = sorted(path.name for path in (BASE.parent / "overlays").iterdir())


def read(path: Path) -> Any:
    """The one document in a file."""
    (document,) = [d for d in yaml.safe_load_all(path.read_text()) if d is not None]
    return document


def manifest(service: str, kind: str) -> Any:
    """One manifest of a service."""
    return read(BASE / service / f"{kind}.yaml")


def container(service: str) -> Any:
    """The service's only container."""
    (only,) = manifest(service, "deployment")["spec"]["template"]["spec"]["containers"]
    return only


def environment(service: str) -> dict[str, Any]:
    """Its variables by name; None for a value that is a reference."""
    return {entry["name"]: entry.get("value") for entry in container(service)["env"]}


def settings(service: str) -> type[ServiceSettings]:
    """The settings class of the service."""
    module = import_module(f"services.{service}.settings")
    (only,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value is not ServiceSettings
    ]
    return only


def variables(kind: type[ServiceSettings]) -> set[str]:
    """Every environment variable the class reads."""
    names: set[str] = set()
    for name, field in kind.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            names |= {str(choice) for choice in field.validation_alias.choices}
        else:
            names.add(f"{kind.model_config.get('env_prefix', '')}{name}".upper())
    return names


def test_every_file_parses_and_every_resource_is_listed() -> None:
    """A manifest that no kustomization names would never be applied."""
    for path in BASE.parent.rglob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text())), path
    for path in BASE.parent.rglob("kustomization.yaml"):
        listed = read(path)["resources"]
        for resource in listed:
            assert (path.parent / resource).exists(), f"{path}: {resource}"
        if path.parent.parent == BASE:
            assert set(listed) == {p.name for p in path.parent.glob("*.yaml")} - {path.name}
    assert set(read(BASE / "kustomization.yaml")["resources"]) == set(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_one_the_service_reads(service: str) -> None:
    """A misspelt name would be ignored in silence."""
    assert set(environment(service)) <= variables(settings(service))


@pytest.mark.parametrize("service", SERVICES)
def test_every_required_setting_is_given(service: str) -> None:
    """A pod without one exits with status 64 at once."""
    kind = settings(service)
    prefix = str(kind.model_config.get("env_prefix", ""))
    required = {f"{prefix}{name}".upper() for name, field in kind.model_fields.items() if field.is_required()}
    assert required <= set(environment(service))


@pytest.mark.parametrize("service", SERVICES)
def test_ports_agree(service: str) -> None:
    """Listening address, container port, probes and service name one port; so do metrics and their annotation."""
    env, spec = environment(service), container(service)
    ports = {port["name"]: port["containerPort"] for port in spec["ports"]}
    listen = int(env[f"POINTSMAN_{service.upper()}_LISTEN"].rpartition(":")[2])
    metrics = int(env[f"POINTSMAN_{service.upper()}_METRICS_LISTEN"].rpartition(":")[2])
    name = "http" if service in HTTP else "grpc"
    assert ports == {name: listen, "metrics": metrics}
    if service in HTTP:
        probed = {kind: spec[kind]["httpGet"] for kind in ("startupProbe", "readinessProbe")}
        assert probed["startupProbe"] == {"path": "/healthz", "port": "http"}
        assert probed["readinessProbe"] == {"path": "/readyz", "port": "http"}
    else:
        assert spec["startupProbe"]["grpc"]["port"] == spec["readinessProbe"]["grpc"]["port"] == listen
    assert spec["livenessProbe"]["tcpSocket"]["port"] == name
    exposed = {
        port["name"]: (port["port"], port["targetPort"])
        for port in manifest(service, "service")["spec"]["ports"]
    }
    assert exposed == {name: (listen, name), "metrics": (metrics, "metrics")}
    annotations = manifest(service, "deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(metrics)
    default = settings(service).model_fields["listen"].default
    assert int(str(default).rpartition(":")[2]) == listen


@pytest.mark.parametrize("service", SERVICES)
def test_selectors_meet_the_pods(service: str) -> None:
    """Service, autoscaler, disruption budget and network policy are about this deployment's pods."""
    deployment = manifest(service, "deployment")
    name, labels = deployment["metadata"]["name"], deployment["spec"]["template"]["metadata"]["labels"]

    def chosen(selector: dict[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in selector.items())

    assert chosen(deployment["spec"]["selector"]["matchLabels"])
    assert chosen(manifest(service, "service")["spec"]["selector"])
    assert chosen(manifest(service, "pdb")["spec"]["selector"]["matchLabels"])
    assert chosen(manifest(service, "networkpolicy")["spec"]["podSelector"]["matchLabels"])
    hpa = manifest(service, "hpa")
    assert hpa["apiVersion"] == "autoscaling/v2"
    assert hpa["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert hpa["spec"]["minReplicas"] == deployment["spec"]["replicas"] < hpa["spec"]["maxReplicas"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_may_do_no_more_than_it_must(service: str) -> None:
    """Not root, nothing writable but its volumes, no capabilities, no service account, bounded memory."""
    pod, spec = manifest(service, "deployment")["spec"]["template"]["spec"], container(service)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in spec["resources"]["limits"]
    assert {mount["name"] for mount in spec["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("service", SERVICES)
def test_there_is_time_to_drain_before_sigkill(service: str) -> None:
    """The grace period covers the preStop pause, the drain and five seconds for closing."""
    pod = manifest(service, "deployment")["spec"]["template"]["spec"]
    pause = float(container(service)["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = float(environment(service)[f"POINTSMAN_{service.upper()}_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] >= pause + drain + 5


def test_targets_are_services_that_exist() -> None:
    """The router's peers resolve to every pod of the right service on the right port."""
    for service in SERVICES:
        for name, value in environment(service).items():
            if not name.endswith("_TARGET"):
                continue
            scheme, _, address = str(value).partition(":///")
            host, _, port = address.partition(":")
            target = manifest(host.removeprefix("pointsman-"), "service")
            assert scheme == "dns"
            assert target["metadata"]["name"] == host
            assert int(port) in {p["port"] for p in target["spec"]["ports"]}
            assert target["spec"]["clusterIP"] == "None"


def test_secrets_are_references_and_provider_keys_go_to_who_calls_providers() -> None:
    """No manifest of the base holds a secret value; only the router and health see the providers' keys."""
    for service in SERVICES:
        for entry in container(service)["env"]:
            if any(word in entry["name"] for word in ("TOKEN", "URL", "DSN", "KEY")):
                assert "secretKeyRef" in entry["valueFrom"], entry["name"]
        assert ("envFrom" in container(service)) is (service in {"router", "health"})


def test_the_spool_is_on_a_volume_of_its_own() -> None:
    """With a read-only root, usage not yet acknowledged needs a place that outlives the container."""
    place = environment("router")["POINTSMAN_ROUTER_SPOOL_DIR"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container("router")["volumeMounts"]}
    assert mounts[place] == "spool"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_bring_a_good_catalog_in_the_file_the_services_read(overlay: str) -> None:
    """The catalog loads with prices, and keeps its name, so that a change reaches running pods."""
    folder = BASE.parent / "overlays" / overlay
    kustomization = read(folder / "kustomization.yaml")
    (generator,) = kustomization["configMapGenerator"]
    assert generator["name"] == "pointsman-catalog"
    assert generator["files"] == [f"{Path(str(environment('router')['POINTSMAN_CONFIG'])).name}=catalog.yaml"]
    assert kustomization["generatorOptions"]["disableNameSuffixHash"] is True
    catalog = load(folder / "catalog.yaml", environ={})
    assert (catalog.tenant_by_key("demo-key") is not None) is (overlay == "dev")
