"""Images, few-shot tasks and scores: all that is measured. Imports neither `baselines` nor `fewshot`."""
