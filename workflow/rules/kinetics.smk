rule kinetics:
    input:
        ingest=f"{CYCLE}/ingest",
        segment=f"{CYCLE}/segment",
        align=f"{CYCLE}/align",
        # Of a cycle with one scan: cycles of the patient with more, which have none of these inputs.
        donors=lambda w: PLAN.donor_folders(w.site, w.patient, w.cycle),
    output:
        directory(f"{CYCLE}/kinetics"),
    log:
        f"{CYCLE_LOG}_kinetics.log",
    resources:
        mem_mb=lambda w, attempt: 3000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        version=stage_version("kinetics"),
        settings=PLAN.settings["kinetics"],
        rows=lambda w: PLAN.cycle(w.site, w.patient, w.cycle).rows_for("kinetics"),
    script:
        "../../scripts/kinetics.py"
