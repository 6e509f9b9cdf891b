# Rscript tests/oracle/lme4/fit.R   (in the folder of the repository; prints lme4.txt and writes lme4.csv)
suppressPackageStartupMessages(library(lme4))
folder <- "tests/oracle/lme4"
all <- read.csv(file.path(folder, "cycles.csv"), stringsAsFactors = TRUE)
all$cycle <- factor(all$cycle)
all$preparation <- relevel(all$preparation, ref = "arginine_lysine")
all$protocol <- relevel(all$protocol, ref = "mtp")
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10))
rows <- data.frame()
add <- function(model, quantity, value) rows <<- rbind(rows, data.frame(model = model, quantity = quantity, value = value))
report <- function(name, fit) {
  print(summary(fit), correlation = FALSE)
  for (term in names(fixef(fit))) {
    add(name, paste("estimate", term), fixef(fit)[[term]])
    add(name, paste("se", term), sqrt(diag(as.matrix(vcov(fit))))[[term]])
  }
  spread <- as.data.frame(VarCorr(fit))
  for (i in seq_len(nrow(spread))) add(name, paste("sd", spread$grp[i]), spread$sdcor[i])
}
cat(R.version.string, "lme4", as.character(packageVersion("lme4")), "\n")

few <- droplevels(all[all$site %in% c("A", "B", "C", "D", "E", "F"), ])
fixed <- lmer(log(gy_per_gbq) ~ site + cycle + preparation + protocol + (1 | patient), few,
              contrasts = list(site = contr.sum), control = tight)
report("fixed", fixed)

random <- lmer(log(gy_per_gbq) ~ cycle + preparation + protocol + (1 | site) + (1 | patient), all, control = tight)
report("random", random)
modes <- ranef(random, condVar = TRUE)$site
for (site in rownames(modes)) {
  add("random", paste("mode", site), modes[site, 1])
  add("random", paste("mode_se", site), sqrt(attr(modes, "postVar")[1, 1, which(rownames(modes) == site)]))
}
rows$value <- signif(rows$value, 12)
write.csv(rows, file.path(folder, "lme4.csv"), row.names = FALSE, quote = FALSE)
