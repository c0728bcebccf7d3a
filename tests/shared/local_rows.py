"""A few rows of each of the nine tasks, made for these tests, in the columns that the Hub's datasets have."""

import json

TOPICS = ["Business & Management", "Finance", "Government & Controls", "Industry", "Tax & Accounting", "Technology"]


def write_rows(file, *rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def mmmlu(question, answer, subject="anatomy"):
    return {"Question": question, "A": "3", "B": "4", "C": "5", "D": "6", "Answer": answer, "Subject": subject}


def xcopa(premise, question, label, first="alianguka.", second="alilala."):
    return {"premise": premise, "choice1": first, "choice2": second, "question": question, "label": label, "idx": 0}


def story(right):
    sentences = {f"input_sentence_{i}": f"Sentence {i}." for i in range(1, 5)}
    return {**sentences, "sentence_quiz1": "It ended well.", "sentence_quiz2": "Blue.", "answer_right_ending": right}


def xnli(hypothesis, label):
    return {"premise": "A man eats", "hypothesis": hypothesis, "label": label}


def mgsm(question, number):
    return {"question": question, "answer": None, "answer_number": number, "equation_solution": None}


def mmlu(question, answer, subject):
    return {"question": question, "subject": subject, "choices": ["1", "2", "3", "4"], "answer": answer}


def multifin(text, gold):
    return {"text": text, "choices": TOPICS, "gold": gold}


def medmcqa(question, cop):
    return {"question": question, "opa": "Iron", "opb": "Zinc", "opc": "Copper", "opd": "Lead", "cop": cop}


def write_all(folder):
    """`folder`, with rows of every task."""
    for language in ("ar", "de", "es", "hi", "sw", "zh"):
        odd = mmmlu("3 + 3 = ?", "D", "abstract_algebra_test.csv_sw-KE.csv")  # as some of the Hub's files have it
        write_rows(folder / f"mmmlu/{language}.jsonl", mmmlu("2 + 2 = ?", "B"), odd)
    for language in ("sw", "zh"):
        rows = xcopa("Mtoto alilia.", "cause", 0), xcopa("Mtu alichoka.", "effect", 1)
        write_rows(folder / f"xcopa/{language}.jsonl", *rows)
    for language in ("en", "ar", "es", "hi", "ru", "sw", "zh"):
        write_rows(folder / f"xstorycloze/{language}.jsonl", story(1), story(2))
    for language in ("en", "ar", "de", "es", "hi", "ru", "sw", "zh"):
        write_rows(folder / f"xnli/{language}.jsonl", xnli("Somebody eats", 0), xnli("Nobody eats", 2))
    for language in ("en", "de", "es", "ru", "sw", "zh"):
        write_rows(folder / f"mgsm/{language}.jsonl", mgsm("Tom has 5 balls and gets 6. How many has he?", 11))
    write_rows(folder / "mmlu.jsonl", mmlu("1 + 1 = ?", 1, "anatomy"), mmlu("1 + 2 = ?", 2, "virology"))
    write_rows(folder / "multifin.jsonl", multifin("VAT will rise in May", 4), multifin("A new phone", 5))
    write_rows(folder / "gsm8k.jsonl", {"question": "What is 2 + 2?", "answer": "2 + 2 = 4.\n#### 4"})
    write_rows(folder / "medmcqa.jsonl", medmcqa("Which is in blood's haemoglobin?", 0), medmcqa("Which is toxic?", 3))
    return folder
