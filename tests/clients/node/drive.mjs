// Drives an OpenAI-compatible server with the official client: one named case after another, one JSON object out.
//
//   node drive.mjs BASE_URL MODEL EMBEDDING_MODEL [API_KEY]
//
// Each case gives {ok: true, value} or {ok: false, error: {name, status, code, param, type}}; the test judges them.

import OpenAI from "openai";

const [baseURL, model, embeddingModel, apiKey = "unused"] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const greedy = { model, messages, temperature: 0, max_tokens: 8 };

async function chat() {
  const { data, response } = await client.chat.completions.create(greedy).withResponse();
  const headers = Object.fromEntries([...response.headers].filter(([name]) => name.startsWith("x-askonce-")));
  return { text: data.choices[0].message.content, finish: data.choices[0].finish_reason, usage: data.usage, headers };
}

async function stream() {
  const pieces = [];
  let finish = null;
  let usage = null;
  const options = { ...greedy, stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create(options)) {
    pieces.push(chunk.choices[0]?.delta.content ?? "");
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  return { text: pieces.join(""), chunks: pieces.length, finish, usage };
}

async function helper() {
  const runner = client.chat.completions.stream(greedy);
  let seen = "";
  runner.on("content", (delta) => (seen += delta));
  const final = await runner.finalChatCompletion();
  return { text: final.choices[0].message.content, seen };
}

async function abort() {
  const events = await client.chat.completions.create({ ...greedy, max_tokens: 200, stream: true });
  for await (const _ of events) break; // leaving the loop closes the connection
  return { aborted: events.controller.signal.aborted };
}

async function embeddings() {
  const reply = await client.embeddings.create({ model: embeddingModel, input: ["one", "two"] });
  return { count: reply.data.length, dimensions: reply.data[0].embedding.length, usage: reply.usage };
}

async function models() {
  const ids = [];
  for await (const entry of client.models.list()) ids.push(entry.id);
  return { ids };
}

const asked = { model, input: messages[0].content, temperature: 0, max_output_tokens: 8 };

async function responses() {
  const { data, response } = await client.responses.create(asked).withResponse();
  const found = await client.responses.retrieve(data.id);
  const items = await client.responses.inputItems.list(data.id);
  const followed = await client.responses.create({ ...asked, input: "And of Italy?", previous_response_id: data.id });
  return {
    text: data.output_text,
    cache: response.headers.get("x-askonce-cache"),
    found: found.output.map((item) => item.content[0].text).join(""),
    items: items.data.map((item) => item.content[0].text),
    followed: followed.output_text,
  };
}

async function responsesStream() {
  const types = [];
  let text = "";
  for await (const event of await client.responses.create({ ...asked, stream: true })) {
    types.push(event.type);
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  return { text, first: types[0], last: types.at(-1) };
}

async function responsesHelper() {
  const runner = client.responses.stream(asked);
  let seen = "";
  runner.on("response.output_text.delta", (event) => (seen += event.delta));
  const final = await runner.finalResponse();
  return { text: final.output_text, seen };
}

async function responsesForgotten() {
  const { id } = await client.responses.create(asked);
  await client.responses.delete(id);
  return client.responses.retrieve(id);
}

const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 12 }, unit: { enum: ["celsius", "fahrenheit"] } },
  required: ["city", "unit"],
  additionalProperties: false,
};
const weather = { name: "weather", description: "How it is", parameters, strict: true };
const withTools = {
  ...greedy,
  max_tokens: 100,
  tools: [{ type: "function", function: weather }],
  tool_choice: { type: "function", function: { name: "weather" } },
};

async function tools() {
  const { choices } = await client.chat.completions.create(withTools);
  const runner = client.chat.completions.stream(withTools);
  const pieces = [];
  runner.on("tool_calls.function.arguments.delta", ({ arguments_delta }) => pieces.push(arguments_delta));
  const streamed = await runner.finalChatCompletion();
  const [call] = choices[0].message.tool_calls;
  const [again] = streamed.choices[0].message.tool_calls;
  const result = { role: "tool", tool_call_id: call.id, content: "12 degrees" };
  const after = { ...withTools, messages: [...messages, choices[0].message, result], tool_choice: "none" };
  const { choices: answers } = await client.chat.completions.create(after);
  return {
    finish: choices[0].finish_reason,
    call: { id: call.id, name: call.function.name, arguments: call.function.arguments },
    streamed: { id: again.id, name: again.function.name, arguments: again.function.arguments },
    pieces,
    after: answers[0].message.content,
  };
}

async function responsesTools() {
  const options = {
    ...asked,
    max_output_tokens: 100,
    tools: [{ type: "function", ...weather }],
    tool_choice: { type: "function", name: "weather" },
  };
  const { data: made, response } = await client.responses.create(options).withResponse();
  const runner = client.responses.stream(options);
  const pieces = [];
  runner.on("response.function_call_arguments.delta", ({ delta }) => pieces.push(delta));
  const streamed = await runner.finalResponse();
  const told = ({ call_id, name, arguments: given }) => ({ id: call_id, name, arguments: given });
  const result = { type: "function_call_output", call_id: made.output[0].call_id, output: "12 degrees" };
  const next = { ...options, input: [result], previous_response_id: made.id, tool_choice: "none" };
  const followed = await client.responses.create(next);
  return {
    cache: response.headers.get("x-askonce-cache"),
    call: told(made.output[0]),
    streamed: told(streamed.output[0]),
    pieces,
    after: followed.output_text,
  };
}

const responsesBuiltIn = () => client.responses.create({ ...asked, tools: [{ type: "web_search" }] });
const unknownModel = () => client.chat.completions.create({ ...greedy, model: "no-such-model" });
const badTemperature = () => client.chat.completions.create({ ...greedy, temperature: "hot" });
const noMessages = () => client.chat.completions.create({ model });
const malformed = () => client.post("/chat/completions", { body: "{", headers: { "content-type": "application/json" } });

async function outcome(run) {
  try {
    return { ok: true, value: await run() };
  } catch (error) {
    const { status, code, param, type, message } = error;
    return { ok: false, error: { name: error.constructor.name, status, code, param, type, message } };
  }
}

const again = chat; // a cache knows it by then
const works = { chat, stream, helper, abort, embeddings, models, again, responses, responsesStream, responsesHelper };
const calling = { tools, responsesTools };
const cases = { ...works, ...calling, responsesForgotten, responsesBuiltIn, unknownModel, badTemperature, noMessages, malformed };
const results = {};
for (const [name, run] of Object.entries(cases)) results[name] = await outcome(run);
process.stdout.write(JSON.stringify(results));
