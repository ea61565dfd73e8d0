"""The Kubernetes manifests agree with each other and with what the services read."""

from __future__ import annotations

import re
from importlib import import_module
from ipaddress import ip_address, ip_network
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
#: What calls what in the cluster, by its port there.
CALLS = {
    "router": {"health": 7701, "ratelimit": 7702, "analytics": 7703},
    "health": {"analytics": 7703},
    "ratelimit": {"analytics": 7703},
    "analytics": {},
}
#: What each needs outside: databases, wherever they are, and providers.
OUTSIDE = {"router": {443}, "health": {443, 6379}, "ratelimit": {6379}, "analytics": {443, 5432}}
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


def port_of(service: str, setting: str) -> int:
    """The port in a `..._LISTEN` variable of its deployment."""
    return int(environment(service)[f"POINTSMAN_{service.upper()}_{setting}"].rpartition(":")[2])


@pytest.mark.parametrize("service", SERVICES)
def test_ports_agree(service: str) -> None:
    """Listening address, container port, probes and service name one port; so do metrics and their annotation."""
    spec = container(service)
    ports = {port["name"]: port["containerPort"] for port in spec["ports"]}
    listen, metrics = port_of(service, "LISTEN"), port_of(service, "METRICS_LISTEN")
    doors = {"http": port_of(service, "HTTP_LISTEN")} if service == "router" else {}
    assert ports == {"grpc": listen, "metrics": metrics, **doors}
    assert spec["startupProbe"]["grpc"]["port"] == spec["readinessProbe"]["grpc"]["port"] == listen
    exposed = {
        port["name"]: (port["port"], port["targetPort"])
        for port in manifest(service, "service")["spec"]["ports"]
    }
    assert exposed == {"grpc": (listen, "grpc"), "metrics": (metrics, "metrics")}
    annotations = manifest(service, "deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(metrics)
    default = settings(service).model_fields["listen"].default
    assert int(str(default).rpartition(":")[2]) == listen


def test_http_clients_have_one_address_of_the_router() -> None:
    """A service of its own: that of gRPC has no address, and its clients see every pod."""
    service = manifest("router", "service-http")
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (port_of("router", "HTTP_LISTEN"), "http")
    assert service["spec"]["selector"] == manifest("router", "service")["spec"]["selector"]
    assert "clusterIP" not in service["spec"]


@pytest.mark.parametrize("service", SERVICES)
def test_liveness_goes_through_the_event_loop(service: str) -> None:
    """The kernel accepts a TCP connection for a process whose loop has been blocked for minutes."""
    probe = container(service)["livenessProbe"]
    assert probe["httpGet"] == {"path": "/livez", "port": "metrics"}
    assert probe["timeoutSeconds"] < probe["periodSeconds"]


def reached(service: str) -> tuple[set[tuple[str, int]], set[int]]:
    """Returns the destinations that the pods may connect to: (label of a pod, port) in the namespace, and ports
    outside it, without DNS."""
    inside, outside = set(), set()
    for rule in manifest(service, "networkpolicy")["spec"]["egress"]:
        ports = {entry["port"] for entry in rule["ports"]}
        assert ports
        if ports == {53}:
            (peer,) = rule["to"]
            assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
            continue
        for peer in rule.get("to", [{}]):
            if "podSelector" in peer:
                name = peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
                inside |= {(name, port) for port in ports}
            else:
                outside |= ports
    return inside, outside


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_connects_to_what_it_needs_and_nowhere_else(service: str) -> None:
    """Egress is closed but for DNS, the services that its settings name, its database and providers; what it calls
    lets it in."""
    policy = manifest(service, "networkpolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    inside, outside = reached(service)
    assert inside == {(f"pointsman-{peer}", port) for peer, port in CALLS[service].items()}
    assert outside == OUTSIDE[service]
    targets = [name.split("_")[2] for name in environment(service) if name.endswith("_TARGET")]
    assert {target.lower() for target in targets} == set(CALLS[service])
    for peer in CALLS[service]:
        (rule, *_) = manifest(peer, "networkpolicy")["spec"]["ingress"]
        callers = {one["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for one in rule["from"]}
        assert f"pointsman-{service}" in callers


def test_providers_are_on_the_internet_and_not_in_the_cluster() -> None:
    """Neither the network around the pods nor the cloud's metadata address is reached as one."""
    for service in ("router", "health", "analytics"):
        blocks = [
            peer["ipBlock"]
            for rule in manifest(service, "networkpolicy")["spec"]["egress"]
            for peer in rule.get("to", [])
            if "ipBlock" in peer
        ]
        closed = [ip_network(one) for block in blocks for one in block["except"]]
        for address in ("10.0.0.1", "169.254.169.254", "172.20.0.1", "192.168.1.1", "fd00::1", "fe80::1"):
            assert any(ip_address(address) in network for network in closed), address


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_are_for_the_scraper_alone(service: str) -> None:
    """Pods of Prometheus in the namespace of monitoring, and nobody else, reach the port."""
    rules = [
        rule
        for rule in manifest(service, "networkpolicy")["spec"]["ingress"]
        if {"port": "metrics"} in rule["ports"]
    ]
    (rule,) = rules
    (peer,) = rule["from"]
    assert peer.keys() == {"namespaceSelector", "podSelector"}
    assert rule["ports"] == [{"port": "metrics"}]


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


def test_the_image_holds_no_tools_and_is_built_on_known_bytes() -> None:
    """The stage that is built where none is named has nothing of dev/; the base is named by its digest."""
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert re.search(r"^ARG PYTHON_IMAGE=python:\S+@sha256:[0-9a-f]{64}$", stages[0], re.MULTILINE)
    bodies = {stage.splitlines()[0].rpartition(" ")[2]: stage for stage in stages[1:]}
    assert list(bodies)[-1] == "production"
    assert bodies["production"].startswith("services ")
    for name in ("services", "production"):
        assert not re.search(r"^COPY .*\bdev\b", bodies[name], re.MULTILINE)
    for stage in bodies.values():
        assert stage.startswith(("${PYTHON_IMAGE} ", "services "))
    simulator = [
        d for d in yaml.safe_load_all((BASE.parent / "overlays/dev/simulator.yaml").read_text()) if d
    ]
    assert simulator[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "pointsman-development"


def test_the_databases_of_the_throw_away_cluster_ask_for_a_password() -> None:
    """Any pod of the cluster could read and write the limits."""
    folder = BASE.parent / "overlays" / "dev"
    deployment, _ = yaml.safe_load_all((folder / "valkey.yaml").read_text())
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    word = arguments[arguments.index("--requirepass") + 1]
    literals = read(folder / "kustomization.yaml")["secretGenerator"][0]["literals"]
    assert f"redis-url=redis://:{word}@valkey:6379/0" in literals
    assert any(literal.startswith("postgres-dsn=postgresql://pointsman:") for literal in literals)


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
