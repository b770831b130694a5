%% @doc The usual poolboy worker: a gen_server that owns one passive socket and does the request
%% and its reply in `handle_call'. A lost socket is connected again by the next call.
-module(sockpool_bench_poolboy_worker).
-behaviour(gen_server).
-behaviour(poolboy_worker).

-export([start_link/1, echo/2]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(TIMEOUT_MS, 5000).

-record(state, {port :: inet:port_number(), socket :: gen_tcp:socket() | undefined}).

-spec start_link([{port, inet:port_number()}]) -> {ok, pid()} | {error, term()}.
start_link([{port, Port}]) ->
    gen_server:start_link(?MODULE, Port, []).

%% @doc Sends the bytes and returns as many that came back.
-spec echo(pid(), binary()) -> {ok, binary()} | {error, term()}.
echo(Worker, Bytes) ->
    gen_server:call(Worker, {echo, Bytes}, ?TIMEOUT_MS * 2).

-spec init(inet:port_number()) -> {ok, #state{}}.
init(Port) ->
    case sockpool_bench_peers:tcp_connect(Port) of
        {ok, Socket} -> {ok, #state{port = Port, socket = Socket}};
        {error, _} -> {ok, #state{port = Port}}
    end.

-spec handle_call({echo, binary()}, gen_server:from(), #state{}) ->
          {reply, {ok, binary()} | {error, term()}, #state{}}.
handle_call({echo, Bytes}, From, State = #state{socket = undefined, port = Port}) ->
    case sockpool_bench_peers:tcp_connect(Port) of
        {ok, Socket} -> handle_call({echo, Bytes}, From, State#state{socket = Socket});
        {error, Reason} -> {reply, {error, Reason}, State}
    end;
handle_call({echo, Bytes}, _From, State = #state{socket = Socket}) ->
    case exchange(Socket, Bytes) of
        {ok, Reply} ->
            {reply, {ok, Reply}, State};
        {error, Reason} ->
            gen_tcp:close(Socket),
            {reply, {error, Reason}, State#state{socket = undefined}}
    end.

exchange(Socket, Bytes) ->
    case gen_tcp:send(Socket, Bytes) of
        ok -> gen_tcp:recv(Socket, byte_size(Bytes), ?TIMEOUT_MS);
        {error, Reason} -> {error, Reason}
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.
