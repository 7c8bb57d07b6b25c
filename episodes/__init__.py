"""What is measured: images, few-shot tasks and scores. Imports neither `baselines` nor `fewshot`."""
