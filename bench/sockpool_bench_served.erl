%% @doc Pools of other nodes on this machine: of the C node, and of an Erlang node; and, to compare with,
%% a gen_server on an Erlang node that answers with the same stats from its memory.
-module(sockpool_bench_served).

-export([start_c/1, start_c_piped/1, start_beside_silent/1, silent/0, start_erlang/1, start_gen_server/1, stop/1]).
-export([stats/3, request/3, join/3]).
-export([init/1, handle_call/3, handle_cast/2]).
-export_type([serving/0]).

-type serving() :: #{node := node(), server := atom(), stop := fun(() -> ok)}.

-define(POOL, bench).
-define(SERVER, sockpool).
-define(TIMEOUT_MS, 5000).
%% Connections to the C node that say nothing.
-define(SILENT, 1000).

%% @doc The C node with a pool, its connections up.
-spec start_c(sockpool_bench_peers:target()) -> serving().
start_c(Target) ->
    start_c(Target, #{}).

%% @doc The same pool, whose requests share connections.
-spec start_c_piped(sockpool_bench_peers:target()) -> serving().
start_c_piped(Target) ->
    start_c(Target, #{pipeline => 4096}).

start_c(Target, Options) ->
    ok = be_a_node(),
    Host = lists:last(string:lexemes(atom_to_list(node()), "@")),
    Node = list_to_atom(peer:random_name(bench_c) ++ "@" ++ Host),
    Port = open_port({spawn_executable, filename:join(code:priv_dir(sockpool), "sockpool_node")},
                     [{args, ["--name", atom_to_list(Node), "--port"]}, {line, 4096}, exit_status,
                      stderr_to_stdout, {env, [{"SOCKPOOL_COOKIE", atom_to_list(erlang:get_cookie())}]}]),
    ok = registered(Port),
    ok = fill({?POOL, Node}, Target, Options),
    #{node => Node, server => ?SERVER, stop => fun() -> true = port_close(Port), ok end}.

%% @doc The same, with connections to its port that say nothing.
-spec start_beside_silent(sockpool_bench_peers:target()) -> serving().
start_beside_silent(Target) ->
    #{node := Node, stop := Stop} = Serving = start_c(Target),
    [Name, Host] = string:lexemes(atom_to_list(Node), "@"),
    {port, Port, _Version} = erl_epmd:port_please(Name, Host),
    Silent = [begin
                  {ok, Socket} = gen_tcp:connect(Host, Port, [{active, false}]),
                  Socket
              end || _ <- lists:seq(1, ?SILENT)],
    Serving#{stop := fun() -> ok = still_open(Silent), Stop() end}.

%% The node closes them in the end; then the last operations were not beside them.
still_open(Sockets) ->
    [{error, timeout} = gen_tcp:recv(Socket, 0, 0) || Socket <- Sockets],
    lists:foreach(fun gen_tcp:close/1, Sockets).

%% @doc How many those are.
-spec silent() -> pos_integer().
silent() -> ?SILENT.

registered(Port) ->
    receive
        {Port, {data, {eol, Line}}} ->
            case string:find(Line, "event=registered") of
                nomatch -> registered(Port);
                _ -> ok
            end;
        {Port, {exit_status, Status}} -> error({sockpool_node, {exit_status, Status}})
    after 10000 -> error({sockpool_node, silent})
    end.

%% @doc An Erlang node with a pool, its connections up.
-spec start_erlang(sockpool_bench_peers:target()) -> serving().
start_erlang(Target) ->
    {Peer, Node} = start_peer(),
    {ok, _} = erpc:call(Node, application, ensure_all_started, [sockpool]),
    ok = fill({?POOL, Node}, Target, #{}),
    #{node => Node, server => ?SERVER, stop => fun() -> peer:stop(Peer) end}.

%% @doc An Erlang node with a gen_server.
-spec start_gen_server(sockpool_bench_peers:target()) -> serving().
start_gen_server(_Target) ->
    {Peer, Node} = start_peer(),
    {ok, _} = erpc:call(Node, gen_server, start, [{local, ?MODULE}, ?MODULE, [], []]),
    #{node => Node, server => ?MODULE, stop => fun() -> peer:stop(Peer) end}.

start_peer() ->
    ok = be_a_node(),
    sockpool_bench_nodes:start_node(#{}).

be_a_node() ->
    case is_alive() of
        true ->
            ok;
        false ->
            ok = sockpool_bench_nodes:start_epmd(),
            {ok, _} = net_kernel:start(list_to_atom(peer:random_name(sockpool_bench)),
                                       #{name_domain => shortnames}),
            ok
    end.

fill(Pool, #{port := Port, size := Size, max_overflow := Overflow}, Options) ->
    ok = sockpool:start_pool(Pool, Options#{host => {127, 0, 0, 1}, port => Port, size => Size,
                                            max_overflow => Overflow}),
    sockpool_bench_wait:until(fun() ->
                                      {ok, #{idle := Idle}} = sockpool:stats(Pool),
                                      Idle =:= Size
                              end).

-spec stop(serving()) -> ok.
stop(#{stop := Stop}) -> Stop().

%%% Operations.

%% @doc gen_server:call of stats.
-spec stats(serving(), sockpool_bench_peers:target(), binary()) -> sockpool_bench_peers:operation().
stats(#{node := Node, server := Server}, _Target, _Payload) ->
    fun() ->
            case gen_server:call({Server, Node}, {stats, ?POOL}, ?TIMEOUT_MS) of
                {ok, #{name := ?POOL}} -> ok;
                Other -> {error, Other}
            end
    end.

%% @doc A request and its reply through the pool of the node.
-spec request(serving(), sockpool_bench_peers:target(), binary()) ->
          sockpool_bench_peers:operation().
request(#{node := Node}, #{bytes := Bytes}, Payload) ->
    fun() ->
            case sockpool:request({?POOL, Node}, Payload, Bytes, ?TIMEOUT_MS) of
                {ok, Payload} -> ok;
                {ok, _} -> {error, wrong_reply};
                {error, _} = Error -> Error
            end
    end.

%% @doc Leaves the node, and joins it by a handshake.
-spec join(serving(), sockpool_bench_peers:target(), binary()) -> sockpool_bench_peers:operation().
join(#{node := Node}, _Target, _Payload) ->
    fun() ->
            true = erlang:disconnect_node(Node),
            case net_kernel:connect_node(Node) of
                true -> ok;
                Other -> {error, Other}
            end
    end.

%%% The gen_server to compare with.

-spec init([]) -> {ok, map()}.
init([]) ->
    Keys = [size, max_overflow, total, idle, leased, connecting, waiting, checkouts, checkins, created,
            reused, closed, abandoned, timeouts, connect_attempts, connect_failures],
    {ok, maps:from_list([{name, ?POOL} | [{Key, 100} || Key <- Keys]])}.

-spec handle_call({stats, atom()}, gen_server:from(), map()) -> {reply, {ok, map()}, map()}.
handle_call({stats, ?POOL}, _From, Stats) -> {reply, {ok, Stats}, Stats}.

-spec handle_cast(term(), map()) -> {noreply, map()}.
handle_cast(_Cast, Stats) -> {noreply, Stats}.
