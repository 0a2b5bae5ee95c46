// The OpenAI SDK for Node, in the major that the first argument names.

import { ASK, URL, WEATHER, check, isCount, isIdle, raises, run } from "./cells.mjs";

const OpenAI = (await import(process.argv[2])).default;
const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "sk-none", maxRetries: 0, timeout: 30000 });
const messages = [{ role: "user", content: ASK }];
const tools = [{ type: "function", function: { name: "weather", description: "The weather.", parameters: WEATHER } }];
const create = (model, more = {}) => client.chat.completions.create({ model, messages, ...more });

async function read(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

await run({
  async chat() {
    const answer = await create("good");
    check(answer.choices[0].message.content && isCount(answer.usage.completion_tokens), answer);
  },
  async stream() {
    const chunks = await read(await create("good", { stream: true, stream_options: { include_usage: true } }));
    check(chunks.length > 5 && isCount(chunks.at(-1).usage.completion_tokens), chunks.at(-1));
  },
  async tools() {
    const tool_choice = { type: "function", function: { name: "weather" } };
    const { message } = (await create("good", { tools, tool_choice })).choices[0];
    const [call] = message.tool_calls;
    check(call.function.name === "weather" && "city" in JSON.parse(call.function.arguments), message);
    const said = [...messages, message, { role: "tool", tool_call_id: call.id, content: "Rain." }];
    const answer = await client.chat.completions.create({ model: "good", messages: said, tools });
    check(answer.choices[0].message.content, answer);
  },
  async errors() {
    const error = await raises(() => create("nobody"), "nobody");
    check(error instanceof OpenAI.NotFoundError && error.code === "model_not_found", error);
    check((await raises(() => create("busy"))) instanceof OpenAI.RateLimitError, "not a limit of rates");
  },
  async cancel() {
    const stream = await create("slow", { stream: true });
    for await (const _ of stream) break;
    await isIdle();
  },
  async "break-off"() {
    await raises(async () => read(await create("breaks", { stream: true })));
  },
});
