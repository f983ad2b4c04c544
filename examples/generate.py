"""Complete several prompts at once; they share every step."""

from sixfold import LLM, SamplingParams

llm = LLM("smollm2-135m")
prompts = ["The capital of France is", "The opposite of hot is", "Two plus two is"]
for output in llm.generate(prompts, SamplingParams(temperature=0, max_tokens=12)):
    print(repr(output.prompt), "->", repr(output.outputs[0].text))
