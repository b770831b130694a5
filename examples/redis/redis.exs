# The client of redis.erl beside this, in Elixir: RESP3, AUTH, MULTI, pub/sub.
#
#     :ok = :sockpool.start_pool(:cache, Redis.options(host: "127.0.0.1", password: &Secrets.redis/0))
#     {:ok, "OK"} = Redis.q(:cache, ["SET", key, value])
defmodule Redis do
  @timeout 5000

  # sockpool's options, and :username, :password (or a fun that returns it), :database.
  def options(opts) do
    {own, rest} = Keyword.split(opts, [:username, :password, :database])
    Keyword.merge([port: 6379], rest) ++ [packet: :resp, init: {__MODULE__, :hello, [own]}]
  end

  # On each new connection.
  def hello(conn, own) do
    with {:ok, %{"proto" => 3}} <- ask(conn, ["HELLO", 3 | auth(own[:password], own)]),
         {:ok, "OK"} <- select(conn, own[:database]),
         do: :ok
  end

  defp auth(nil, _own), do: []
  defp auth(password, own) when is_function(password), do: auth(password.(), own)
  defp auth(password, own), do: ["AUTH", own[:username] || "default", password]

  defp select(_conn, nil), do: {:ok, "OK"}
  defp select(conn, number), do: ask(conn, ["SELECT", number])

  # One command, one reply, over whichever connection is free.
  def q(pool, command, timeout \\ @timeout),
    do: pool |> :sockpool.request(encode(command), :packet, timeout) |> reply()

  # All of them or none.
  def multi(pool, commands) do
    leased(pool, fn conn ->
      with :ok <- :sockpool.send(conn, Enum.map([["MULTI"]] ++ commands ++ [["EXEC"]], &encode/1)),
           {:ok, _} <- replies(conn, length(commands) + 1),
           do: reply(:sockpool.recv(conn, :packet, @timeout))
    end)
  end

  defp replies(conn, count) do
    Enum.reduce_while(1..count, {:ok, nil}, fn _, _ ->
      case :sockpool.recv(conn, :packet, @timeout) do
        {:ok, _} = queued -> {:cont, queued}
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

  # Until the handler, fn {:subscribed, channel} | {:message, channel, text}, state -> {:more | :stop, state} end, has said :stop.
  def subscribe(pool, channels, handler, state) do
    leased(pool, fn conn ->
      with :ok <- :sockpool.send(conn, encode(["SUBSCRIBE" | channels])), do: published(conn, handler, state)
    end)
  end

  defp published(conn, handler, state) do
    case reply(:sockpool.recv(conn, :packet, :infinity)) do
      {:ok, {:push, ["subscribe", channel, _count]}} -> handled(conn, handler, {:subscribed, channel}, state)
      {:ok, {:push, ["message", channel, text]}} -> handled(conn, handler, {:message, channel, text}, state)
      {:error, _} = error -> error
    end
  end

  # What was published in between is still before the end of the subscription.
  defp handled(conn, handler, event, state) do
    with {:stop, last} <- handler.(event, state),
         :ok <- :sockpool.send(conn, encode(["UNSUBSCRIBE"])),
         {:ok, _} <- :sockpool.recv_until(conn, &match?({:push, ["unsubscribe", _, 0]}, decode(&1)), @timeout) do
      {:ok, last}
    else
      {:more, next} -> published(conn, handler, next)
      {:error, _} = error -> error
    end
  end

  # With a connection that one has already.
  def ask(conn, command) do
    with :ok <- :sockpool.send(conn, encode(command), @timeout), do: reply(:sockpool.recv(conn, :packet, @timeout))
  end

  defp leased(pool, fun) do
    with {:ok, result} <- :sockpool.execute(pool, fun), do: result
  end

  defp reply({:error, _} = error), do: error

  defp reply({:ok, message}) do
    with value when not is_tuple(value) or elem(value, 0) != :error <- decode(message), do: {:ok, value}
  end

  def encode(command), do: ["*#{length(command)}\r\n" | Enum.map(command, &bulk(to_string(&1)))]

  defp bulk(text), do: ["$#{byte_size(text)}\r\n", text, "\r\n"]

  # One value: a message of the framing.
  def decode(message) do
    {value, ""} = value(message)
    value
  end

  defp value(<<kind, rest::binary>>) do
    [line, rest] = :binary.split(rest, "\r\n")
    value(kind, line, rest)
  end

  defp value(?+, text, rest), do: {text, rest}
  defp value(?-, text, rest), do: {{:error, text}, rest}
  defp value(kind, digits, rest) when kind in ~c":(", do: {String.to_integer(digits), rest}
  defp value(?,, text, rest), do: {double(text), rest}
  defp value(?#, text, rest), do: {text == "t", rest}
  defp value(?_, "", rest), do: {nil, rest}
  defp value(_kind, "-1", rest), do: {nil, rest}
  defp value(kind, digits, rest), do: sized(kind, String.to_integer(digits), rest)

  defp sized(kind, length, rest) when kind in ~c"$!=" do
    <<text::binary-size(length), "\r\n", rest::binary>> = rest
    {text(kind, text), rest}
  end

  # What is said about the value that follows.
  defp sized(?|, count, rest), do: rest |> values(2 * count) |> elem(1) |> value()

  defp sized(?%, count, rest) do
    {values, rest} = values(rest, 2 * count)
    {values |> Enum.chunk_every(2) |> Map.new(&List.to_tuple/1), rest}
  end

  defp sized(?>, count, rest) do
    {values, rest} = values(rest, count)
    {{:push, values}, rest}
  end

  defp sized(kind, count, rest) when kind in ~c"*~", do: values(rest, count)

  defp values(rest, 0), do: {[], rest}
  defp values(rest, count), do: Enum.map_reduce(1..count, rest, fn _, rest -> value(rest) end)

  defp text(?$, text), do: text
  defp text(?!, text), do: {:error, text}
  defp text(?=, <<_format::binary-size(3), ":", text::binary>>), do: text

  defp double(text) when text in ["inf", "-inf", "nan", "-nan"], do: String.to_atom(text)
  defp double(text), do: text |> Float.parse() |> elem(0)
end
