rule segment:
    input:
        ingest=f"{CYCLE}/ingest",
    output:
        directory(f"{CYCLE}/segment"),
    log:
        f"{CYCLE_LOG}_segment.log",
    # More by the profile (set-threads, set-resources): no number depends on them.
    threads: 1
    resources:
        mem_mb=lambda w, attempt: segment_mem_mb(PLAN.settings["segment"]) * attempt,
        runtime=lambda w, attempt: 120 * attempt,
        gpu=0,
    params:
        version=stage_version("segment"),
        settings=PLAN.settings["segment"],
        rows=lambda w: PLAN.cycle(w.site, w.patient, w.cycle).rows_for("segment"),
    script:
        "../../scripts/segment.py"
