rule ingest:
    output:
        directory(f"{CYCLE}/ingest"),
    log:
        f"{CYCLE_LOG}_ingest.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        version=stage_version("ingest"),
        settings=PLAN.settings["ingest"],
        rows=lambda w: PLAN.cycle(w.site, w.patient, w.cycle).rows_for("ingest"),
    script:
        "../../scripts/ingest.py"
