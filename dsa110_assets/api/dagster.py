"""The one client of Dagster's GraphQL, used by the API and by `dsa110 backfill`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsa110_assets.errors import DagsterUnreachableError, NonRetriableError, NotFoundError

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.stages.operations.backfill import Backfill

LOCATION = "dsa110_assets"
REPOSITORY = "__repository__"
"""Name that Dagster gives to the definitions of a code location."""
RAW_FILES = "raw_files"
"""The sensor whose switch starts and stops ingest."""
_MESSAGE = "... on Error { message }"
_RUN = "runId status jobName tags { key value } startTime endTime creationTime"
DOCUMENTS = {
    "launch_backfill": "mutation Launch($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) "
    "{ __typename ... on LaunchBackfillSuccess { backfillId } " + _MESSAGE + " } }",
    "launch_run": "mutation LaunchRun($params: ExecutionParams!) { launchRun(executionParams: $params) "
    "{ __typename ... on LaunchRunSuccess { run { " + _RUN + " } } "
    "... on RunConfigValidationInvalid { errors { message } } " + _MESSAGE + " } }",
    "runs": "query Runs($filter: RunsFilter, $cursor: String, $limit: Int) { runsOrError(filter: $filter, cursor: $cursor, limit: $limit) "
    "{ __typename ... on Runs { results { " + _RUN + " } } " + _MESSAGE + " } }",
    "run": "query Run($id: ID!) { runOrError(runId: $id) { __typename ... on Run { " + _RUN + " } " + _MESSAGE + " } }",
    "count": "query Count($filter: RunsFilter) { runsOrError(filter: $filter) { __typename ... on Runs { count } " + _MESSAGE + " } }",
    "terminate": "mutation Terminate($id: String!) { terminateRun(runId: $id) "
    "{ __typename ... on TerminateRunSuccess { run { runId } } ... on TerminateRunFailure { message } " + _MESSAGE + " } }",
    "sensor": "query Sensor($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) "
    "{ __typename ... on Sensor { name sensorState { id selectorId status } } " + _MESSAGE + " } }",
    "start_sensor": "mutation Start($selector: SensorSelector!) { startSensor(sensorSelector: $selector) "
    "{ __typename ... on Sensor { sensorState { status } } " + _MESSAGE + " } }",
    "stop_sensor": "mutation Stop($id: String!) { stopSensor(id: $id) "
    "{ __typename ... on StopSensorMutationResult { instigationState { status } } " + _MESSAGE + " } }",
}
"""All GraphQL documents that are sent. A test validates them against Dagster's own schema."""
_LONGEST_REASON = 500
_TIMEOUT_S = 30.0
_LAUNCH_TIMEOUT_S = 120.0


class Dagster:
    """Client of a running Dagster UI. Every method raises `DagsterUnreachableError` if it does not answer."""

    def __init__(self, config: PipelineConfig) -> None:
        host = "127.0.0.1" if config.api_host in ("0.0.0.0", "::") else config.api_host  # noqa: S104 - an address to avoid
        self.url = f"http://{host}:{config.dagster_port}"

    def launch_backfill(self, chosen: Backfill, title: str, *, tags: Mapping[str, str] | None = None) -> str:
        """Start a backfill; return its identifier.

        Raises:
            NonRetriableError: Dagster refuses the backfill; its message is quoted.
        """
        from dsa110_assets.stages.operations.backfill import consecutive

        targets = [
            {
                "assetKey": {"path": [asset]},
                "partitions": {"ranges": [{"start": first, "end": last} for first, last in consecutive(asset, keys)]} if keys else None,
            }
            for asset, keys in chosen.partitions.items()
        ]
        labels = {"dagster/max_retries": "0", "dsa110/because": f"backfill of {title}", **(tags or {})}
        parameters = {"partitionsByAssets": targets, "title": f"{title}: {chosen.size} products", "tags": _tags(labels)}
        answer = self._ask("launch_backfill", {"params": parameters}, timeout_s=_LAUNCH_TIMEOUT_S)
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise NonRetriableError("backfill", _reason(answer), "run the same command with `--dry-run` and check the list")
        return str(answer["backfillId"])

    def launch_run(self, job: str, *, run_config: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """Put a run of a job into the queue; return it as Dagster describes it.

        Raises:
            NonRetriableError: Dagster refuses it; its message is quoted.
        """
        parameters = {
            "selector": {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "jobName": job},
            "runConfigData": dict(run_config),
            "mode": "default",
            "executionMetadata": {"tags": _tags(tags)},
        }
        answer = self._ask("launch_run", {"params": parameters}, timeout_s=_LAUNCH_TIMEOUT_S)
        if answer["__typename"] != "LaunchRunSuccess":
            raise NonRetriableError(f"job {job}", _reason(answer), "correct the request; the UI's launchpad of the job shows its fields")
        return dict(answer["run"])

    def runs(
        self, *, tags: Mapping[str, str] | None = None, statuses: Sequence[str] = (), cursor: str | None = None, limit: int
    ) -> list[dict[str, Any]]:
        """Runs, newest first; ``cursor``: the run before the first one."""
        answer = self._ask("runs", {"filter": _filter(tags, statuses), "cursor": cursor, "limit": limit})
        if answer["__typename"] != "Runs":
            raise NonRetriableError("runs", _reason(answer), "check the filter")
        return list(answer["results"])

    def count(self, *, tags: Mapping[str, str] | None = None, statuses: Sequence[str] = ()) -> int:
        """Number of runs."""
        return int(self._ask("count", {"filter": _filter(tags, statuses)}).get("count") or 0)

    def run(self, run_id: str) -> dict[str, Any]:
        """One run.

        Raises:
            NotFoundError: there is no run of this identifier.
        """
        answer = self._ask("run", {"id": run_id})
        if answer["__typename"] != "Run":
            raise NotFoundError(f"run {run_id}", "Dagster knows no run of this identifier", "list runs in the Dagster UI")
        return answer

    def terminate(self, run_id: str) -> None:
        """Cancel a queued or running run.

        Raises:
            NotFoundError: there is no run of this identifier.
            NonRetriableError: it has ended already.
        """
        self.run(run_id)
        answer = self._ask("terminate", {"id": run_id})
        if answer["__typename"] != "TerminateRunSuccess":
            raise NonRetriableError(f"run {run_id}", _reason(answer), "look at its state: it may have ended")

    def sensor_is_running(self, name: str = RAW_FILES) -> bool:
        """Whether a sensor is switched on."""
        return self._sensor(name)["status"] == "RUNNING"

    def switch_sensor(self, *, on: bool, name: str = RAW_FILES) -> bool:
        """Switch a sensor on or off; return whether it is on now.

        Raises:
            NonRetriableError: Dagster refuses it.
        """
        if on:
            answer = self._ask("start_sensor", {"selector": _sensor_selector(name)})
            state = answer.get("sensorState")
        else:
            answer = self._ask("stop_sensor", {"id": self._sensor(name)["id"]})
            state = answer.get("instigationState")
        if state is None:
            raise NonRetriableError(f"sensor {name}", _reason(answer), "use the switch in the Dagster UI, under Automation")
        return state["status"] == "RUNNING"

    def _sensor(self, name: str) -> dict[str, Any]:
        answer = self._ask("sensor", {"selector": _sensor_selector(name)})
        if answer["__typename"] != "Sensor":
            raise DagsterUnreachableError(
                f"sensor {name}", _reason(answer), "check in the Dagster UI, under Deployment, that the code is loaded"
            )
        return dict(answer["sensorState"])

    def _ask(self, document: str, variables: Mapping[str, Any], *, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
        import httpx2

        try:
            body = {"query": DOCUMENTS[document], "variables": dict(variables)}
            answer = httpx2.post(f"{self.url}/graphql", json=body, timeout=timeout_s, trust_env=False)
            found = answer.json()
        except (httpx2.HTTPError, json.JSONDecodeError) as error:
            raise DagsterUnreachableError(
                f"Dagster UI at {self.url}",
                f"does not answer ({type(error).__name__}: {error})",
                "start the platform with `dsa110 up`; check PIPELINE_DAGSTER_PORT",
            ) from error
        answered: dict[str, Any] = (
            {"message": found["errors"][0].get("message")} if found.get("errors") else dict(next(iter(found["data"].values())))
        )
        if "OperationalError" in str(answered.get("message") or ""):
            raise DagsterUnreachableError(f"Dagster UI at {self.url}", "its database does not answer", "try again in some seconds")
        if found.get("errors"):
            raise NonRetriableError("Dagster", _reason(answered), "read the web server's log")
        return answered


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _filter(tags: Mapping[str, str] | None, statuses: Sequence[str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if tags:
        chosen["tags"] = _tags(tags)
    if statuses:
        chosen["statuses"] = list(statuses)
    return chosen


def _sensor_selector(name: str) -> dict[str, str]:
    return {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION, "sensorName": name}


def _reason(answer: Mapping[str, Any]) -> str:
    if errors := answer.get("errors"):
        return "; ".join(str(one["message"]) for one in errors)
    message = str(answer.get("message") or answer.get("__typename"))
    return message.split("\n[SQL:", maxsplit=1)[0].strip()[:_LONGEST_REASON]
