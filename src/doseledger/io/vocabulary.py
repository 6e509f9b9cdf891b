"""Words of which a declared text may be made without being looked at: they describe disease, therapy and plan.

Names of persons and places are not among them. What else a sheet says is read by a person before it is shared.
"""

from __future__ import annotations

from typing import Final

_WORDS: Final = """
a abiraterone about above absent absorbed acid acids activity adenocarcinoma adjuvant administration adrenal after
allowed alpha amino and antibiotic antiemetic arginine at ate b background band beam before below beta between biopsy
by bladder blood body bone borderline bowel brain breast bronchial cabazitaxel cancer capecitabine carcinoid carcinoma
carried castration cell cells chemotherapy chest chromogranin cm colon contours cooling crpc cycle cycles d day days
dexamethasone diagnosis disease docetaxel dose doses dotanoc dotatate dotatoc duct duodenum early ebrt ectopic
enzalutamide everolimus external factors fasting feeding fluid fluids for foregut from functional functioning
furosemide g gastric gastrinoma gbq gep gland glands glucagonoma grade gross gy h hepatic high hindgut hormone
hydration hypertension i ileal ileum in infusion insulinoma intestine intravenous iodine is islet ivf jejunum kg
kidney kidneys l lanreotide left lesion lesions line liver local low lower lu lu177 lung lutetium lymph lysine
malignant mantle marrow mcrpc mean medullary meningioma mesentery metastases metastasis metastatic midgut min mixed ml
moderate more multiple nec neck neoadjuvant net nets neuroblastoma neuroendocrine no node nodes non none normal not
nsclc octreotide of ondansetron operable or oral organ other ovary over pancreas pancreatic paraganglioma parathyroid
parotid partial patient patients pca peritoneal pet pheochromocytoma pituitary plus post pre premedication primary
prior progression progressive prostate prrt psma ra ra223 radiation radioembolisation radioembolization radiofrequency
radioiodine radioligand radiotherapy rectum reference refractory region renal resected resection resistant right risk
rt sa salivary score second secondary sirt site skin small solution somatostatin spleen stable stage standard status
steroid stomach submandibular sunitinib surgery systemic t tace target tbq temozolomide the therapy third threshold
thymus thyroid to transplant tumor tumour type unknown unresectable untreated upper uptake urinary use uterus vertebra
vertebrae water well whole with without y90 year years yttrium
"""
VOCABULARY: Final = frozenset(_WORDS.split())
