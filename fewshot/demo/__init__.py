"""`fewshot demo`: a page on this computer to paint lesions, segment other images, and see what each painting brings."""
