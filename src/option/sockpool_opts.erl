%%% @doc The options of a pool, checked and complete. Which there are, their defaults, and what is allowed:
%%% sockpool_option_table.
%%%
%%% ```
%%% {ok, Opts} = sockpool_opts:parse(cache, #{host => "127.0.0.1", port => 6379}),
%%% {error, Bad} = sockpool_opts:parse(cache, #{host => "127.0.0.1", port => none}),
%%% io:format("~ts~n", [sockpool_opts:format_error(Bad)]).
%%% '''
-module(sockpool_opts).

-export([parse/2, changed/2, start/1, given/1, format_error/1, seal/1, server/1, stop_ms/1, has_user_timeout/1]).
-export_type([opts/0, bad_option/0, needs_restart/0]).

-type needs_restart() :: {needs_restart, Key :: atom()}.

-type bad_option() :: {bad_option, Key :: term(), Value :: term()}.
%% The key is `{tls, Key}' for an option in the map `tls'.
-type opts() :: #{atom() => term()}.
%% Every option, as the pool works with it: hosts are a list of addresses and of strings, texts are binaries in
%% UTF-8, `packet => 0' is `raw', a cookie and what a callback is called with are in funs. What the transport
%% has no use for is `undefined'.

-define(HOSTS_SHOWN, 3).
%% What a pool without a name has among its options.
-define(UNNAMED, unnamed).
%% What a pool gets to tell its users that it ends; then it is killed. Its workers have their own time before that.
-define(STOP_MS, 5000).

%% @doc Checks the options of the pool `Name', or of one without a name, a reference, and fills in the defaults.
%%
%% They are a map or a list of `{Key, Value}'. When several options are wrong, one of them is reported. A
%% term that is neither is reported under the key `opts', a name that is no atom under the key `name'.
-spec parse(Name :: term(), Opts :: term()) -> {ok, opts()} | {error, bad_option()}.
parse(Name, Opts) ->
    try
        {ok, checked(Name, Opts)}
    catch
        throw:{bad_option, _, _} = Bad -> {error, Bad};
        throw:{wrong, Key, Value} -> {error, {bad_option, Key, Value}}
    end.

%% @doc Says which option is wrong, what its value is, and what is allowed.
-spec format_error(bad_option()) -> string().
format_error({bad_option, opts, Value}) ->
    format("options: ~0tP is not allowed; it must be a map, or a list of {Key, Value}, of options, and no "
           "option is called opts", [Value, 30]);
format_error({bad_option, {tls, Key}, Value}) ->
    "tls " ++ sockpool_option:explain(sockpool_option_table:tls(), Key, Value);
format_error({bad_option, Key, Value}) ->
    case is_of_a_function(Key, Value) of
        false ->
            sockpool_option:explain(sockpool_option_table:pool(), Key, Value) ++ hint(Key, Value);
        true when Key =:= transport, Value =:= worker ->
            "this function is not for pools with transport worker, and a node in C has no such pools";
        true when Key =:= transport ->
            format("this function is not for pools with transport ~p", [Value]);
        true ->
            format("setopts does not know ~0tP; it knows packet, nodelay, keepalive, sndbuf and recbuf", [Key, 30])
    end.

%% A start refuses no transport that there is, and does not show what an unknown option was given.
is_of_a_function(transport, Value) -> lists:member(Value, sockpool_option_table:transports(vm));
is_of_a_function(Key, Value) -> Value =/= not_shown andalso not lists:member(Key, keys()).

hint(host, Value) ->
    case sockpool_host:hint(Value) of
        "" -> "";
        Hint -> "; " ++ Hint
    end;
hint(Key, not_shown) ->
    case lists:member(Key, sockpool_option:keys(sockpool_option_table:tls())) of
        true -> format("; ~p is one of those in the option tls", [Key]);
        false -> ""
    end;
hint(_Key, _Value) ->
    "".

%%% Checking: each function throws the first wrong option it finds.

%% SP_PIPES_MAX of c_src/core/pool/sp_piped.h.
-define(PIPES_MAX, 65536).

-spec checked(term(), term()) -> opts().
checked(Pool, Opts) when is_reference(Pool) ->
    case all_given(Opts) of
        #{name := Name} -> throw({wrong, name, Name});
        Given -> checked(?UNNAMED, Given)
    end;
checked(Name, _Opts) when not is_atom(Name); Name =:= undefined ->
    throw({wrong, name, Name});
checked(Name, Opts) ->
    Rows = sockpool_option_table:pool(),
    Given = without_unused(Rows, maps:merge(#{name => Name}, all_given(Opts))),
    Parsed = sockpool_option:checked(Rows, Given),
    ok = check_name(Name, Parsed),
    ok = check_transport(Rows, Given),
    ok = check_required(Rows, Parsed),
    ok = check_refused(Rows, Given),
    ok = check_together(Parsed),
    ok = check_min_size(Parsed),
    ok = check_health(Parsed),
    with_validate(with_packet(Given, with_tls(maps:merge(Parsed, maps:from_list([{Key, undefined} || {Key, _} <- refused(Rows, Parsed)]))))).

all_given(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, Given} -> Given;
        error -> throw({wrong, opts, not_a_map})
    end.

keys() -> sockpool_option:keys(sockpool_option_table:pool()).

%% What the transport has no use for may be given as `undefined', which is none of its values otherwise.
without_unused(Rows, Given) ->
    maps:without([Key || {Key, undefined} <- refused(Rows, Given)], Given).

%% With what is given.
refused(Rows, Opts) ->
    Transport = maps:get(transport, Opts, tcp),
    [{Key, maps:get(Key, Opts, undefined)}
     || {Key, _, _, Rules} <- Rows, lists:member(Transport, proplists:get_value(refused, Rules, []))].

check_name(Name, #{name := Name}) -> ok;
check_name(_Name, #{name := Other}) -> throw({wrong, name, Other}).

%% Who gives a worker means that transport: that there is no host is not what is wrong.
check_transport(Rows, #{worker := Worker} = Given) when Worker =/= undefined, not is_map_key(transport, Given) ->
    throw({wrong, worker, sockpool_option:shown(Rows, worker, Worker)});
check_transport(_Rows, _Given) ->
    ok.

check_required(Rows, #{transport := Transport} = Parsed) ->
    case [Key || {Key, _, _, Rules} <- Rows, lists:member(Transport, proplists:get_value(required, Rules, [])),
                 maps:get(Key, Parsed) =:= undefined] of
        [] -> ok;
        [Key | _] -> throw({wrong, Key, undefined})
    end.

check_refused(Rows, Given) ->
    case [Key || {Key, Value} <- refused(Rows, Given), Value =/= undefined] of
        [] -> ok;
        [Key | _] -> throw({wrong, Key, sockpool_option:shown(Rows, Key, maps:get(Key, Given))})
    end.

check_together(Parsed) ->
    ok = check_sum(lists:keyfind(size, 1, sockpool_option_table:pool()), Parsed),
    ok = check_user_timeout(Parsed),
    check_pipeline(Parsed).

check_user_timeout(#{user_timeout := Ms}) when is_integer(Ms) ->
    has_user_timeout(os:type()) orelse throw({wrong, user_timeout, Ms}),
    ok;
check_user_timeout(_Parsed) ->
    ok.

%% @private
%% Whether a socket has such an option there.
-spec has_user_timeout({unix | win32, atom()}) -> boolean().
has_user_timeout(Os) -> Os =:= {unix, linux}.

check_sum({size, _Default, {integer, _Min, Max}, _Rules}, #{size := Size, max_overflow := Overflow})
  when Size + Overflow >= 1, Size + Overflow =< Max ->
    ok;
check_sum(_Row, #{size := Size}) ->
    throw({wrong, size, Size}).

check_min_size(#{min_size := Min, size := Size}) when is_integer(Min), Min > Size -> throw({wrong, min_size, Min});
check_min_size(_Parsed) -> ok.

%% There is nothing to send to a worker.
check_health(#{transport := worker, health := #{check := undefined} = How}) ->
    throw({wrong, health, maps:without([send, expect], How)});
check_health(_Parsed) ->
    ok.

%% Each connection may be a pipe.
check_pipeline(#{pipeline := Many, size := Size, max_overflow := Overflow})
  when is_integer(Many), Many > 1, Size + Overflow > ?PIPES_MAX ->
    throw({wrong, pipeline, Many});
check_pipeline(_Parsed) ->
    ok.

%% Its defaults too, where nothing is given.
with_tls(#{transport := tls, tls := undefined} = Parsed) ->
    {ok, Opts} = sockpool_option:tls(#{}),
    Parsed#{tls := Opts};
with_tls(Parsed) ->
    Parsed.

with_packet(Given, #{transport := node, packet := Packet}) when Packet =/= raw, Packet =/= 4 ->
    throw({wrong, packet, maps:get(packet, Given)});
with_packet(_Given, #{transport := node} = Parsed) ->
    Parsed#{packet := 4};
with_packet(_Given, Parsed) ->
    Parsed.

%% Whether a worker lives is looked at in any case; a function looks at workers only.
with_validate(#{transport := Transport, validate := Validate} = Parsed) ->
    case is_function(Validate) orelse (is_tuple(Validate) andalso tuple_size(Validate) =:= 3) of
        IsFunction when IsFunction =:= (Transport =:= worker) -> Parsed;
        false when Validate =:= always -> Parsed;
        _ -> throw({wrong, validate, Validate})
    end.

%% @doc What is changed by options that are given for a pool that runs with these, and all of its options after that.
-spec changed(Given :: term(), opts()) -> {ok, Changes :: opts(), opts()} | {error, bad_option() | needs_restart()}.
changed(Given, Opts) ->
    try
        Changes = changes(Given, Opts),
        Changed = maps:merge(Opts, Changes),
        ok = check_together(Changed),
        %% A smaller size lowers it.
        ok = check_min_size(maps:merge(maps:with([size], Changed), maps:with([min_size], Changes))),
        ok = check_health(Changed),
        {ok, Changes, with_validate(Changed)}
    catch
        throw:{wrong, Key, Value} -> {error, {bad_option, Key, Value}};
        throw:{needs_restart, _} = Fixed -> {error, Fixed}
    end.

changes(Given, #{transport := Transport} = Opts) ->
    Rows = sockpool_option_table:pool(),
    All = all_given(Given),
    Unused = [Key || {Key, _} <- refused(Rows, Opts)],
    Used = maps:filter(fun(Key, Value) -> Value =/= undefined orelse not lists:member(Key, Unused) end, All),
    Checked = sockpool_option:checked([Row || {Key, _, _, _} = Row <- Rows, is_map_key(Key, Used)], Used),
    _ = [throw({wrong, Key, sockpool_option:shown(Rows, Key, maps:get(Key, All))}) || Key <- Unused, is_map_key(Key, Used)],
    _ = [throw({needs_restart, Key}) || {Key, _, _, Rules} <- Rows, is_map_key(Key, Checked),
                                        lists:member(restart, Rules) orelse (Key =:= validate andalso Transport =:= worker)],
    Checked.

%% @doc For another node: a map, with nothing in it that is not given.
-spec given(term()) -> {ok, map()} | {error, bad_option()}.
given(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, #{tls := Tls} = Given} -> {ok, Given#{tls := sockpool_option:tls_given(Tls)}};
        {ok, _} = Ok -> Ok;
        error -> {error, {bad_option, opts, not_a_map}}
    end.

%% @doc The options, as a map, with nothing in them that must not be in a log.
-spec seal(term()) -> map() | not_a_map.
seal(Opts) ->
    case given(Opts) of
        {ok, Given} -> sockpool_option:sealed(sockpool_option_table:pool(), Given);
        {error, _} -> not_a_map
    end.

%% @doc The option `start' alone, of a pool of another node.
-spec start(map()) -> {ok, async | {await, pos_integer() | size, non_neg_integer()}} | {error, bad_option()}.
start(Given) ->
    Value = maps:get(start, Given, async),
    case sockpool_option:check(start, Value) of
        {ok, Start} -> {ok, Start};
        error -> {error, {bad_option, start, Value}}
    end.

%% @doc How long a pool may take to stop, in milliseconds. Of options that are not complete, and may be wrong, too.
-spec stop_ms(term()) -> timeout().
stop_ms(#{transport := worker} = Opts) ->
    case maps:get(worker_shutdown, Opts, default_of(worker_shutdown)) of
        infinity -> infinity;
        Ms when is_integer(Ms), Ms >= 0 -> ?STOP_MS + Ms;
        _Wrong -> ?STOP_MS
    end;
stop_ms(_Opts) ->
    ?STOP_MS.

default_of(Key) ->
    {Key, Default, _Kind, _Rules} = lists:keyfind(Key, 1, sockpool_option_table:pool()),
    Default.

%% @doc To whom the pool connects, for a log.
-spec server(opts()) -> string().
server(#{transport := worker, worker := Start}) ->
    case sockpool_callback:name(Start) of
        {Module, Function} -> format("~tp:~tp", [Module, Function]);
        none -> "a worker"
    end;
server(#{transport := unix, path := Path}) ->
    format("~ts", [Path]);
server(#{transport := node, node := Node, port := undefined}) ->
    atom_to_list(Node);
server(#{transport := node, node := Node, port := Port}) ->
    format("~ts:~b", [Node, Port]);
server(#{host := Hosts, port := Port}) ->
    Shown = lists:sublist(Hosts, ?HOSTS_SHOWN),
    Rest = case length(Hosts) - length(Shown) of
               0 -> "";
               More -> format(" and ~b more", [More])
           end,
    lists:append(lists:join(", ", [format("~ts:~b", [sockpool_host:text(Host), Port]) || Host <- Shown])) ++ Rest.

format(Format, Args) -> lists:flatten(io_lib:format(Format, Args)).
