"""The container file and the manifests: valid for their tools, and true of the gateway."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from fakes import gateway as gateways
from fastroute.gateway.config.settings import load_config

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "deployment"
CONFIG = FOLDER / "base" / "gateway.toml"


@cache
def rendered() -> dict[tuple[str, str], Any]:
    """What ``kubectl apply -k`` would send, by kind and name."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which renders kustomizations, is not installed")
    command = ["kubectl", "kustomize", str(FOLDER / "example")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = list(yaml.safe_load_all(text))
    return {
        (made["kind"], re.sub("-[a-z0-9]{10}$", "", made["metadata"]["name"])): made
        for made in found
    }


def gateway_pod() -> Any:
    return rendered()["Deployment", "fastroute"]["spec"]["template"]["spec"]


def secrets() -> dict[str, str]:
    lines = (FOLDER / "example" / "secrets.env").read_text().split()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_every_manifest_fits_its_schema(version: str) -> None:
    assert len(rendered()) == 11
    for made in rendered().values():
        kubernetes_validate.validate(made, version, strict=True)
    wrong = {**rendered()["Service", "fastroute"], "spec": {"ports": "none"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_what_it_asks_of_the_gateway_is_there() -> None:
    (container,) = gateway_pod()["containers"]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    autoscaler = rendered()["HorizontalPodAutoscaler", "fastroute"]["spec"]
    metric = autoscaler["metrics"][0]["pods"]["metric"]["name"]
    annotations = rendered()["Deployment", "fastroute"]["spec"]["template"]["metadata"]
    scraped = annotations["annotations"]["prometheus.io/path"]
    # Without the server of [state], which is not there, it serves.
    arguments = ("--config", str(CONFIG), "--routers", "length")
    with gateways.start(*arguments, environment=secrets()) as gateway:
        assert {probe["path"] for probe in probes} == {"/ready", "/health"}
        assert [gateway.ask("GET", probe["path"]).status for probe in probes] == [200] * 3
        page = gateway.ask("GET", scraped).body.decode()
        assert f"\n{metric} 0.0\n" in page
    assert autoscaler["scaleTargetRef"]["name"] == "fastroute"


def test_a_pod_has_the_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in secrets().items():
        monkeypatch.setenv(name, value)
    config = load_config(str(CONFIG))
    pod = gateway_pod()
    (command, seconds) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    needed_s = int(seconds) + config.server.shutdown_timeout_s
    assert pod["terminationGracePeriodSeconds"] >= needed_s + 10
    # It takes more requests than it is scaled for.
    autoscaler = rendered()["HorizontalPodAutoscaler", "fastroute"]["spec"]
    target = autoscaler["metrics"][0]["pods"]["target"]["averageValue"]
    assert int(target) < config.server.max_concurrency


@pytest.mark.parametrize("name", ["fastroute", "valkey"])
def test_pods_have_no_rights(name: str) -> None:
    pod = rendered()["Deployment", name]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert re.fullmatch(r"\S+:\d\S+", container["image"])  # a version, not "latest"
        assert container["resources"]["limits"]["memory"]


def test_selectors_ports_and_secrets_fit_each_other() -> None:
    made = rendered()
    for name in ("fastroute", "valkey"):
        template = made["Deployment", name]["spec"]["template"]
        labels = template["metadata"]["labels"].items()
        service = made["Service", name]["spec"]
        policy = made["NetworkPolicy", name]["spec"]
        for selector in (
            made["Deployment", name]["spec"]["selector"]["matchLabels"],
            service["selector"],
            policy["podSelector"]["matchLabels"],
        ):
            assert selector.items() <= labels
            assert selector
        ports = {
            port["name"]: port["containerPort"]
            for c in template["spec"]["containers"]
            for port in c["ports"]
        }
        assert service["ports"][0]["targetPort"] in ports
        assert policy["ingress"][0]["ports"][0]["port"] in ports
    budget = made["PodDisruptionBudget", "fastroute"]["spec"]["selector"]
    assert budget == made["Deployment", "fastroute"]["spec"]["selector"]
    peers = [
        peer for rule in made["NetworkPolicy", "fastroute"]["spec"]["egress"] for peer in rule["to"]
    ]
    assert {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "valkey"}}} in peers
    (source,) = made["NetworkPolicy", "valkey"]["spec"]["ingress"][0]["from"]
    assert source == {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "fastroute"}}}
    config = tomllib.loads(CONFIG.read_text())
    url = config["state"]["url"]
    service = made["Service", "valkey"]["spec"]["ports"][0]
    assert url == f"redis://valkey:{service['port']}/0"
    named = set(re.findall(r'\w+_env = "(\w+)"', CONFIG.read_text()))
    assert named == set(secrets())
    generated = made["Secret", "fastroute-secrets"]["metadata"]["name"]
    (container,) = gateway_pod()["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": generated}}]


def test_the_container_file_has_no_fault_that_hadolint_knows() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    path = str(FOLDER / "Containerfile")
    done = subprocess.run([str(hadolint), path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    text = (FOLDER / "Containerfile").read_text()
    assert "\nUSER 10001:10001\n" in text
    assert text.count("\nFROM ") == 2


def test_every_dependency_is_pinned_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    named = [*project["dependencies"], *extras["serve"], *extras["state"], *extras["postgresql"]]
    for needed in map(Requirement, named):
        if needed.name == "fastroute":
            continue
        name = needed.name.lower().replace("_", "-").replace(".", "-")
        assert needed.specifier.contains(pins[name]), needed
        assert needed.marker is None or name in pins


def test_the_bill_of_materials_lists_what_is_installed(tmp_path: Path) -> None:
    text = (FOLDER / "Containerfile").read_text()
    step = re.search(r"/opt/sbom/bin/(cyclonedx-py environment .*?)\n\n", text, re.DOTALL)
    assert step is not None
    small = tmp_path / "environment"  # with two of the packages: all of them take a minute
    venv.create(small, symlinks=True)
    (packages,) = small.glob("lib/*/site-packages")
    for name in ("aiohttp", "redis"):
        (facts,) = Path(sysconfig.get_path("purelib")).glob(f"{name}-*.dist-info")
        (packages / facts.name).symlink_to(facts)
    words = step[1].replace("\\\n", "").replace("/opt/fastroute/bin", str(small / "bin"))
    path = tmp_path / "sbom.json"
    command = words.replace("/opt/fastroute/sbom.json", str(path)).split()
    command[0] = str(Path(sys.executable).with_name("cyclonedx-py"))
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    text = path.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    names = {component["name"] for component in json.loads(text)["components"]}
    assert names == {"aiohttp", "redis"}
