%%% Ports for programs that a test starts.
-module(sockpool_test_port).

-export([free/0]).

%% Below the range of ephemeral ports: no client's end can take it before the program does.
-define(FIRST_PORT, 10000).
-define(PORTS, 22000).

%% @doc A port of 127.0.0.1 on which nothing listens.
-spec free() -> inet:port_number().
free() ->
    Port = ?FIRST_PORT + rand:uniform(?PORTS),
    case gen_tcp:listen(Port, [{ip, {127, 0, 0, 1}}]) of
        {ok, Listener} -> ok = gen_tcp:close(Listener), Port;
        {error, eaddrinuse} -> free()
    end.
