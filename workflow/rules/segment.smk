rule segment:
    input:
        ingest=f"{CYCLE}/ingest",
    output:
        directory(f"{CYCLE}/segment"),
    log:
        f"{CYCLE_LOG}_segment.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
    params:
        version=stage_version("segment"),
        settings=PLAN.settings["segment"],
        rows=lambda w: PLAN.cycle(w.site, w.patient, w.cycle).rows_for("segment"),
    script:
        "../../scripts/segment.py"
