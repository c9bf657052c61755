"""The openai package, unchanged, against the server at argv[1] with the key argv[2]. Prints what it got as one JSON object."""

import json
import sys

import openai
from openai import OpenAI

client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key=sys.argv[2], max_retries=0)
model = client.models.list().data[0].id
messages = [{"role": "user", "content": "What is the capital of France?"}]
got: dict[str, object] = {"model": model}

chat = client.chat.completions.create(model=model, messages=messages, max_tokens=16, temperature=0, logprobs=True)
got["chat"] = chat.choices[0].message.content
got["chat_tokens"] = "".join(token.token for token in chat.choices[0].logprobs.content)
got["usage"] = chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens

text = ""
for chunk in client.chat.completions.create(
    model=model, messages=messages, max_tokens=16, temperature=0, stream=True, stream_options={"include_usage": True}
):
    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    got["streamed_usage"] = chunk.usage is not None
got["streamed_chat"] = text

# This helper takes an answer that max_tokens ended for an error. What stops it is in the answer, whatever the model says.
got["chat_stop"] = got["chat"][len(got["chat"]) // 2 :][:4]
with client.chat.completions.stream(model=model, messages=messages, temperature=0, stop=[got["chat_stop"]]) as stream:
    got["accumulated_chat"] = stream.get_final_completion().choices[0].message.content

completion = client.completions.create(model=model, prompt="Once upon a time", max_tokens=8, temperature=0)
got["completion"] = completion.choices[0].text
got["streamed_completion"] = "".join(
    chunk.choices[0].text
    for chunk in client.completions.create(
        model=model, prompt="Once upon a time", max_tokens=8, temperature=0, stream=True
    )
)

response = client.responses.create(model=model, input="Say hello.", max_output_tokens=16, temperature=0)
got["response"] = response.output_text
got["retrieved"] = client.responses.retrieve(response.id).output_text
got["input_items"] = [item.content[0].text for item in client.responses.input_items.list(response.id)]
later = client.responses.create(
    model=model, input="And again.", previous_response_id=response.id, max_output_tokens=4, temperature=0
)
got["later_input"] = later.usage.input_tokens > response.usage.input_tokens
# This one, too: without response.completed it has no final response.
got["response_stop"] = response.output_text[len(response.output_text) // 2 :][:4]
with client.responses.stream(
    model=model, input="Say hello.", temperature=0, extra_body={"stop": [got["response_stop"]]}
) as events:
    got["event_types"] = [event.type for event in events]
    got["streamed_response"] = events.get_final_response().output_text
client.responses.delete(response.id)

background = client.responses.create(model=model, input="Count.", max_output_tokens=2000, background=True)
got["cancelled"] = client.responses.cancel(background.id).status

for chunk in client.completions.create(model=model, prompt="On and on", max_tokens=1000, stream=True):
    break  # leaves the stream

errors = []
for call in (
    lambda: client.responses.retrieve(response.id),
    lambda: client.completions.create(model="gpt-9", prompt="a"),
    lambda: client.completions.create(model=model, prompt="a", temperature=9),
    lambda: OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0).models.list(),
):
    try:
        call()
        errors.append(None)
    except openai.APIStatusError as error:
        errors.append(type(error).__name__)
got["errors"] = errors
print(json.dumps(got))
