rule course:
    input:
        dose=lambda w: course_inputs(PLAN, w.site, w.patient, available=AVAILABLE),
    output:
        report(
            directory(f"{PATIENT}/course"),
            patterns=["{page}.html"],
            caption="../report/patient_page.rst",
            category="Patients",
            labels={"site": "{site}", "patient": "{patient}"},
        ),
    log:
        f"{RESULTS}/logs/site-{{site}}/sub-{{patient}}_course.log",
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        version=stage_version("course"),
        settings=PLAN.settings["course"],
        rows=lambda w: PLAN.course_rows(w.site, w.patient),
    script:
        "../../scripts/course.py"
