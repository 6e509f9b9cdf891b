"""Commands about time-activity curves of a whole cohort."""
