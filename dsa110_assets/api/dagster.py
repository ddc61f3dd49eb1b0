"""The one client of Dagster's GraphQL, used by the API and by `dsa110 backfill`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from ssl import SSLContext
from typing import TYPE_CHECKING, Any

from dsa110_assets.errors import DagsterUnreachableError, NonRetriableError, NotFoundError
from dsa110_assets.stages.operations.systemd import how_to_start
from dsa110_assets.stages.pages import LOCATION, REPOSITORY

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.stages.operations.backfill import Backfill

RAW_FILES = "raw_files"
"""The sensor whose switch starts and stops ingest."""
_MESSAGE = "... on Error { message }"
_RUN = "runId status jobName tags { key value } startTime endTime creationTime"
_BACKFILL = (
    "id status title timestamp endTimestamp numPartitions tags { key value } assetBackfillData { assetBackfillStatuses { __typename "
    "... on AssetPartitionsStatusCounts "
    "{ assetKey { path } numPartitionsTargeted numPartitionsInProgress numPartitionsMaterialized numPartitionsFailed } "
    "... on UnpartitionedAssetStatus { assetKey { path } inProgress materialized failed } } }"
)
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
    "start_schedule": "mutation StartSchedule($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) "
    "{ __typename ... on ScheduleStateResult { scheduleState { status } } " + _MESSAGE + " } }",
    "stop_schedule": "mutation StopSchedule($id: String!) { stopRunningSchedule(id: $id) "
    "{ __typename ... on ScheduleStateResult { scheduleState { status } } " + _MESSAGE + " } }",
    "switches": "query Switches($selector: RepositorySelector!) { repositoryOrError(repositorySelector: $selector) { __typename "
    "... on Repository { sensors { name description sensorState { id status } } "
    "schedules { name description cronSchedule scheduleState { id status } } } " + _MESSAGE + " } }",
    "backfills": "query Backfills($limit: Int) { partitionBackfillsOrError(limit: $limit) "
    "{ __typename ... on PartitionBackfills { results { " + _BACKFILL + " } } " + _MESSAGE + " } }",
    "cancel_backfill": "mutation CancelBackfill($id: String!) { cancelPartitionBackfill(backfillId: $id) "
    "{ __typename ... on CancelBackfillSuccess { backfillId } " + _MESSAGE + " } }",
    "stop_sensor": "mutation Stop($id: String!) { stopSensor(id: $id) "
    "{ __typename ... on StopSensorMutationResult { instigationState { status } } " + _MESSAGE + " } }",
}
"""All GraphQL documents that are sent. A test validates them against Dagster's own schema."""
_LONGEST_REASON = 500
_TIMEOUT_S = 30.0
_LAUNCH_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Switch:
    """A sensor or schedule. ``cron``: times of a schedule (UTC), empty for a sensor."""

    name: str
    kind: str
    description: str
    running: bool
    cron: str


@dataclass(frozen=True)
class BackfillAsset:
    """Progress of a backfill in one asset: numbers of partitions."""

    asset: str
    targeted: int
    in_progress: int
    made: int
    failed: int


@dataclass(frozen=True)
class BackfillState:
    """A backfill as Dagster knows it. ``status``: as in Dagster, in lower case. ``active``: it has not ended."""

    id: str
    title: str
    status: str
    active: bool
    person: str | None
    begun_at: datetime | None
    ended_at: datetime | None
    assets: tuple[BackfillAsset, ...]

    @property
    def done(self) -> float:
        """Fraction of its partitions that were made or failed."""
        total = sum(one.targeted for one in self.assets)
        return sum(one.made + one.failed for one in self.assets) / total if total else float(not self.active)


class Dagster:
    """Client of a running Dagster UI. Every method raises `DagsterUnreachableError` if it does not answer."""

    def __init__(self, config: PipelineConfig) -> None:
        host = "127.0.0.1" if config.api_host in ("0.0.0.0", "::") else config.api_host  # noqa: S104 - an address to avoid
        self.url = f"http://{host}:{config.dagster_port}{config.dagster_prefix}"

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

    def switches(self) -> list[Switch]:
        """All sensors and schedules, by name."""
        return [switch for switch, _ in self._switches().values()]

    def switch(self, name: str, *, on: bool) -> bool:
        """Switch a sensor or a schedule on or off; return whether it is on now.

        Raises:
            NotFoundError: there is none of this name.
            NonRetriableError: Dagster refuses it.
        """
        known = self._switches()
        if name not in known:
            raise NotFoundError(f"switch {name}", "there is no sensor or schedule of this name", f"choose one of {', '.join(known)}")
        switch, state_id = known[name]
        if switch.kind == "sensor":
            return self.switch_sensor(on=on, name=name)
        selector = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION, "scheduleName": name}
        answer = self._ask("start_schedule", {"selector": selector}) if on else self._ask("stop_schedule", {"id": state_id})
        if (state := answer.get("scheduleState")) is None:
            raise NonRetriableError(f"schedule {name}", _reason(answer), "use the switch in the Dagster UI, under Automation")
        return state["status"] == "RUNNING"

    def backfills(self, limit: int) -> list[BackfillState]:
        """The newest backfills."""
        answer = self._ask("backfills", {"limit": limit})
        if answer["__typename"] != "PartitionBackfills":
            raise NonRetriableError("backfills", _reason(answer), "look at Runs > Backfills in the Dagster UI")
        return [_backfill(one) for one in answer["results"]]

    def cancel_backfill(self, backfill_id: str) -> None:
        """Cancel a backfill: its runs in progress end, and no new ones begin.

        Raises:
            NonRetriableError: it is unknown, or Dagster refuses it.
        """
        answer = self._ask("cancel_backfill", {"id": backfill_id})
        if answer["__typename"] != "CancelBackfillSuccess":
            raise NonRetriableError(f"backfill {backfill_id}", _reason(answer), "look at Runs > Backfills in the Dagster UI")

    def _switches(self) -> dict[str, tuple[Switch, str]]:
        """Switches by name, with the identifier of their state."""
        selector = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}
        answer = self._ask("switches", {"selector": selector})
        if answer["__typename"] != "Repository":
            raise DagsterUnreachableError(
                "sensors and schedules", _reason(answer), "check in the Dagster UI, under Deployment, that the code is loaded"
            )
        found: dict[str, tuple[Switch, str]] = {}
        for kind in ("sensor", "schedule"):
            for one in answer[f"{kind}s"]:
                state, cron = one[f"{kind}State"], str(one.get("cronSchedule") or "")
                switch = Switch(one["name"], kind, one.get("description") or "", state["status"] == "RUNNING", cron)
                found[switch.name] = switch, state["id"]
        return dict(sorted(found.items()))

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
            answer = httpx2.post(f"{self.url}/graphql", json=body, timeout=timeout_s, trust_env=False, verify=_certificates())
            found = answer.json()
        except (httpx2.HTTPError, json.JSONDecodeError) as error:
            raise DagsterUnreachableError(
                f"Dagster UI at {self.url}",
                f"does not answer ({type(error).__name__}: {error})",
                f"start the platform with {how_to_start()}; check PIPELINE_DAGSTER_PORT",
            ) from error
        answered: dict[str, Any] = (
            {"message": found["errors"][0].get("message")} if found.get("errors") else dict(next(iter(found["data"].values())))
        )
        if "OperationalError" in str(answered.get("message") or ""):
            raise DagsterUnreachableError(f"Dagster UI at {self.url}", "its database does not answer", "try again in some seconds")
        if found.get("errors"):
            raise NonRetriableError("Dagster", _reason(answered), "read the web server's log")
        return answered


@cache
def _certificates() -> SSLContext:
    """The authorities that are trusted; reading them takes 40 ms, which every request would do again."""
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


def _backfill(found: Mapping[str, Any]) -> BackfillState:
    tags = {one["key"]: one["value"] for one in found.get("tags") or ()}
    assets: list[BackfillAsset] = []
    for one in (found.get("assetBackfillData") or {}).get("assetBackfillStatuses") or ():
        name = "/".join(one["assetKey"]["path"])
        if one["__typename"] == "UnpartitionedAssetStatus":
            assets.append(BackfillAsset(name, 1, int(one["inProgress"]), int(one["materialized"]), int(one["failed"])))
        else:
            numbers = (one[f"numPartitions{what}"] for what in ("Targeted", "InProgress", "Materialized", "Failed"))
            assets.append(BackfillAsset(name, *numbers))
    begun, ended = found.get("timestamp"), found.get("endTimestamp")
    return BackfillState(
        id=str(found["id"]),
        title=str(found.get("title") or ""),
        status=str(found["status"]).lower().replace("_", " "),
        active=found["status"] in ("REQUESTED", "CANCELING", "FAILING"),
        person=tags.get("dsa110/person"),
        begun_at=None if begun is None else datetime.fromtimestamp(begun, UTC),
        ended_at=None if ended is None else datetime.fromtimestamp(ended, UTC),
        assets=tuple(assets),
    )


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
