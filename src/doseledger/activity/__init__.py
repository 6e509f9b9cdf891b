"""From images to activity: what blur does to the activity inside an outline."""

from doseledger.activity.recovery import self_recovery

__all__ = ["self_recovery"]
