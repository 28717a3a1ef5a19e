"""Accuracy of language detection, by length of the text.

The file (`--languages`) is JSONL of {"lang_file", "text"}: ISO 639-3 codes, with a script or region after
an underscore, as in collections of the Universal Declaration of Human Rights. Languages that the model
knows are scored, in every script of the file; a text "too short to tell" counts as wrong, and the number
of these is reported.
"""

from __future__ import annotations

import json
from typing import Any

from bench.report import Figure, Skipped
from engine.data.signals.text_checks import detect_languages

# ISO 639-3 -> the model's code, for languages that both have.
CODES_TEXT = """
afr=af als=sq amh=am arb=ar ast=ast azj=az bel=be ben=bn bho=bh bod=bo bos=bs bre=br bul=bg cat=ca
ceb=ceb ces=cs ckb=ckb cmn=zh cos=co cym=cy dan=da deu=de div=dv ell=el eml=eml eng=en epo=eo est=et
eus=eu fin=fi fra=fr fri=fy gla=gd gle=ga glg=gl gug=gn guj=gu hat=ht heb=he hin=hi hrv=hr hsb=hsb
hun=hu hye=hy ido=io ilo=ilo ina=ia ind=id isl=is ita=it jav=jv jpn=ja kan=kn kat=ka kaz=kk khk=mn
khm=km kir=ky kor=ko lao=lo lat=la lav=lv lit=lt ltz=lb mai=mai mal=ml mar=mr min=min mkd=mk mlt=mt
mya=my nds=nds nep=ne nld=nl nno=nn nob=no oss=os pam=pam pan=pa pbu=ps pes=fa plt=mg pnb=pnb pol=pl
por=pt quz=qu roh=rm ron=ro rus=ru sah=sah san=sa sco=sco slk=sk slv=sl som=so spa=es src=sc srp=sr
sun=su swe=sv swh=sw tam=ta tat=tt tgk=tg tgl=tl tha=th tuk=tk tur=tr tyv=tyv uig=ug ukr=uk urd=ur
uzn=uz vec=vec vep=vep vie=vi war=war wln=wa ydd=yi yor=yo
"""
CODES = dict(pair.split("=") for pair in CODES_TEXT.split())
COMMON_TEXT = """
af ar be bg bn ca cs da de el en es et fa fi fr gu he hi hr hu hy id it ja ka kk km kn ko lt lv mk ml mn
mr my ne nl no pa pl pt ro ru sk sl sq sr sv sw ta th tl tr uk ur uz vi zh
"""
COMMON = frozenset(COMMON_TEXT.split())  # languages with many speakers and much text on the web
SIZES = (30, 50, 100, 200)
COMMON_LIMIT = 0.9  # minimum accuracy for texts of 100 characters


def accuracy(bench: Any) -> list[Figure]:
    """Measure the share of texts whose language is detected correctly."""
    path = bench.options.languages
    if path is None or not path.exists():
        raise Skipped(
            f"there is no labelled file {path}" if path else "no labelled file was given (--languages FILE)"
        )
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    labelled = [(CODES[row["lang_file"][:3]], row["text"]) for row in rows if row["lang_file"][:3] in CODES]
    common = [row for row in labelled if row[0] in COMMON]
    whole, unsure = _right(labelled)
    figures = [
        Figure("files", len(rows)),
        Figure("files in a language that the model knows", len(labelled)),
        Figure("whole text: right", whole, digits=3),
        Figure("whole text: too unsure to tell", unsure, digits=3),
        Figure(f"whole text, {len(common)} in common languages: right", _right(common)[0], digits=3),
    ]
    for size in SIZES:
        right, unsure = _right(_pieces(common, size))
        limit = COMMON_LIMIT if size == 100 else None
        figures.append(Figure(f"{size} characters, common languages: right", right, limit=limit, digits=3))
        figures.append(Figure(f"{size} characters: too unsure to tell", unsure, digits=3))
    return figures


def _pieces(rows: list[tuple[str, str]], size: int) -> list[tuple[str, str]]:
    """Return five pieces from the body of each text."""
    return [
        (code, " ".join(text.split())[start : start + size])
        for code, text in rows
        for start in range(200, 1200, 200)
    ]


def _right(rows: list[tuple[str, str]]) -> tuple[float, float]:
    """Return the share of texts detected correctly, and of those too short or too mixed to tell."""
    answers = [code for code, _ in detect_languages([""] * len(rows), [text for _, text in rows])]
    right = sum(answer == code for answer, (code, _) in zip(answers, rows, strict=True))
    return right / len(rows), answers.count("") / len(rows)
