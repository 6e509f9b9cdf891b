rule course:
    input:
        dose=lambda w: course_inputs(PLAN, w.site, w.patient, available=AVAILABLE),
    output:
        directory(f"{PATIENT}/course"),
    params:
        version=stage_version("course"),
        settings=PLAN.settings["course"],
        rows=lambda w: PLAN.course_rows(w.site, w.patient),
    log:
        f"{RESULTS}/logs/site-{{site}}_sub-{{patient}}_course.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
    script:
        "../../scripts/course.py"
