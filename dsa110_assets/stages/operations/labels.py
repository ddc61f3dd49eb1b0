"""Labels of candidates: which there are, and giving them with the person's name. Each change is recorded."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from dsa110_assets.registry.queries import labels, people


@dataclass(frozen=True)
class Label:
    """A usual label: the key that gives it, the word, its meaning. Any other word is possible too."""

    key: str
    word: str
    meaning: str


USUAL = (
    Label("1", "ese", "an extreme scattering event"),
    Label("2", "maybe", "worth a second look when there are more epochs"),
    Label("3", "variable", "a source that varies otherwise"),
    Label("4", "artifact", "side lobe, neighbor, edge, or interference"),
    Label("5", "calibration", "neighbors deviate in the same epochs"),
)


def label(session: Session, event_id: int, *, person: str, label: str | None, comment: str | None) -> None:
    """Set a person's label and comment on an event; None and None remove them."""
    labels.label_event(session, event_id, person=person, label=label, comment=comment)
    people.record_action(session, person, "label_event", str(event_id), {"label": label, "comment": comment})


def set_label(session: Session, event_id: int, *, person: str, label: str | None) -> None:
    """Set a person's label and keep the comment."""
    labels.change_label(session, event_id, person=person, label=label)
    people.record_action(session, person, "label_event", str(event_id), {"label": label})


def set_comment(session: Session, event_id: int, *, person: str, comment: str | None) -> None:
    """Set a person's comment and keep the label."""
    labels.change_comment(session, event_id, person=person, comment=comment)
    people.record_action(session, person, "label_event", str(event_id), {"comment": comment})


def undo(session: Session, event_id: int, *, person: str) -> None:
    """Take back a person's last label or comment on an event."""
    labels.undo_label(session, event_id, person=person)
    people.record_action(session, person, "undo_label", str(event_id), {})
