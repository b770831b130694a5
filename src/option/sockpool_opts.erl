%%% @doc The options of a pool: one table says which there are, their defaults, what they may
%%% be and how that is told to the user. Validation and messages both come from it.
%%%
%%% ```
%%% {ok, Opts} = sockpool_opts:parse(cache, #{host => "127.0.0.1", port => 6379}),
%%% {error, Bad} = sockpool_opts:parse(cache, #{host => "127.0.0.1", port => none}),
%%% io:format("~ts~n", [sockpool_opts:format_error(Bad)]).
%%% '''
-module(sockpool_opts).

-export([parse/2, given/1, format_error/1, seal/1]).
-export([server/1, split_node/1, cookie_bytes/1]).
-export_type([opts/0, bad_option/0]).

-type ms() :: 0..4294967295.
-type bad_option() :: {bad_option, Key :: term(), Value :: term()}.
%% The key is `{tls, Key}' for an option in the map `tls'.
-type opts() :: #{name := atom(),
                  transport := tcp | tls | unix | node,
                  host := [sockpool_host:host(), ...] | undefined,
                  port := inet:port_number() | undefined,
                  path := binary() | undefined,
                  size := non_neg_integer(),
                  max_overflow := non_neg_integer(),
                  overflow_ttl := ms() | infinity,
                  strategy := lifo | fifo,
                  max_waiting := non_neg_integer() | infinity,
                  checkout_timeout := ms() | infinity,
                  connect_timeout := ms(),
                  send_timeout := ms() | infinity,
                  packet := raw | 1 | 2 | 4 | line,
                  nodelay := boolean(),
                  keepalive := boolean(),
                  sndbuf := pos_integer() | undefined,
                  recbuf := pos_integer() | undefined,
                  bind := inet:ip_address() | undefined,
                  init := sockpool_callback:callback() | undefined,
                  validate := always | {'after', ms()} | never,
                  max_hold := ms() | infinity,
                  recv_limit := pos_integer(),
                  backoff := {ms(), ms()},
                  tls := sockpool_tls:opts() | undefined,
                  node := node() | undefined,
                  cookie := sockpool_secret:secret() | sockpool_callback:callback() | undefined,
                  max_inflight := pos_integer() | undefined}.
%% The options as the pool works with them: complete and normalised. Times are milliseconds.

-type check() :: fun((term()) -> {ok, Normalised :: term()} | error).
-type kind() :: {check(), Allowed :: string()}.
-type row() :: {Key :: atom(), Default :: term(), kind()}.

-define(MAX_MS, 4294967295).
-define(MAX_COUNT, 4294967295).
-define(MAX_BYTES, 2147483647).
-define(MAX_CONNECTIONS, 1000000).
-define(MAX_NODE_CHARS, 254).
-define(MAX_PATH_BYTES, 107).
-define(MAX_COOKIE_BYTES, 255).
-define(MAX_INFLIGHT, 64).
-define(HOSTS_SHOWN, 3).

%% @doc Checks the options of the pool `Name' and fills in the defaults.
%%
%% They are a map or a list of `{Key, Value}'. When several options are wrong, one of them is reported. A
%% term that is neither is reported under the key `opts', a name that is no atom under the key `name'.
-spec parse(Name :: term(), Opts :: term()) -> {ok, opts()} | {error, bad_option()}.
parse(Name, Opts) ->
    try
        {ok, checked(Name, Opts)}
    catch
        throw:{bad_option, _, _} = Bad -> {error, Bad}
    end.

%% @doc Says which option is wrong, what its value is, and what is allowed.
-spec format_error(bad_option()) -> string().
format_error({bad_option, opts, Value}) ->
    format("options: ~0tP is not allowed; it must be a map, or a list of {Key, Value}, of options, and no "
           "option is called opts", [Value, 30]);
format_error({bad_option, {tls, _}, _} = Bad) ->
    sockpool_tls:format_error(Bad);
format_error({bad_option, Key, Value}) ->
    case lists:keyfind(Key, 1, rows()) of
        %% A required one: it is missing.
        {Key, undefined, {_Check, Allowed}} when Value =:= undefined ->
            format("option ~0tp is not given; it must be ~ts", [Key, string:replace(Allowed, ", or undefined", "")]);
        {Key, _Default, {Check, Allowed}} ->
            Says = case fits(Check, Value) of
                       true -> "option ~0tp: ~0tP is not allowed here, or not with the other options; in general it is ~ts";
                       false -> "option ~0tp: ~0tP is not allowed; it must be ~ts"
                   end,
            format(Says, [Key, Value, 30, Allowed]) ++ hint(Key, Value);
        false ->
            format("option ~0tP does not exist; the options are ~ts", [Key, 30, words(keys())])
    end.

hint(host, Value) ->
    case sockpool_host:hint(Value) of
        "" -> "";
        Hint -> "; " ++ Hint
    end;
hint(_Key, _Value) ->
    "".

%% What is shown there is not what was given.
fits(_Check, not_a_cookie) -> false;
fits(_Check, not_shown) -> false;
fits(Check, Value) -> try Check(Value) =/= error catch throw:{bad_option, _, _} -> false end.

-spec rows() -> [row()].
rows() ->
    Tcp = "required with transport tcp and tls, not allowed with unix and node",
    Port = "required with transport tcp and tls; with node instead of asking epmd; not allowed with unix",
    Unix = "required with transport unix, not allowed with others",
    Node = "required with transport node, not allowed with others",
    WithNode = "only with transport node",
    Sum = "size and max_overflow together from 1 to " ++ integer_to_list(?MAX_CONNECTIONS),
    Connections = integer(0, ?MAX_CONNECTIONS),
    [{name, undefined, pool_name()},
     {transport, tcp, one_of([tcp, tls, unix, node])},
     {host, undefined, note(Tcp, optional(hosts()))},
     {port, undefined, note(Port, optional(integer(1, 65535)))},
     {path, undefined, note(Unix, optional(path()))},
     {size, 10, note(Sum, Connections)},
     {max_overflow, 10, note(Sum, Connections)},
     {overflow_ttl, 10000, or_infinity(ms(0))},
     {strategy, lifo, one_of([lifo, fifo])},
     {max_waiting, infinity, or_infinity(integer(0, ?MAX_COUNT))},
     {checkout_timeout, 5000, or_infinity(ms(0))},
     {connect_timeout, 5000, ms(1)},
     {send_timeout, 5000, or_infinity(ms(0))},
     {packet, raw, note("with transport node it is 4", packet())},
     {nodelay, true, one_of([true, false])},
     {keepalive, false, one_of([true, false])},
     {sndbuf, undefined, optional(bytes())},
     {recbuf, undefined, optional(bytes())},
     {bind, undefined, note("not allowed with transport unix", optional(ip_address()))},
     {init, undefined, note("not allowed with transport node", optional(fun_of_one()))},
     {validate, always, validate()},
     {max_hold, infinity, or_infinity(ms(1))},
     {recv_limit, 67108864, bytes()},
     {backoff, {100, 10000}, backoff()},
     {tls, undefined, note("with transport tls, and with node for TLS distribution", optional(tls()))},
     {node, undefined, note(Node, optional(node_name()))},
     {cookie, undefined, note(WithNode ++ "; by default the one that is set for that node here", optional(cookie()))},
     {max_inflight, undefined, note(WithNode ++ "; 64 by default", optional(integer(1, ?MAX_COUNT)))}].

-spec keys() -> [atom()].
keys() ->
    [Key || {Key, _Default, _Kind} <- rows()].

%% Checking: each function throws the first wrong option it finds.

-spec checked(term(), term()) -> opts().
checked(Name, _Opts) when not is_atom(Name); Name =:= undefined ->
    throw({bad_option, name, Name});
checked(Name, Opts) ->
    Own = all_given(Opts),
    ok = check_known(Own),
    Defaults = maps:from_list([{Key, Default} || {Key, Default, _Kind} <- rows()]),
    Given = maps:merge(Defaults#{name := Name}, Own),
    Parsed = maps:from_list([{Key, checked_value(Key, maps:get(Key, Given), Kind)}
                             || {Key, _Default, Kind} <- rows()]),
    ok = check_name(Name, Parsed),
    ok = check_transport(Given),
    ok = check_sum(Parsed),
    with_node(with_tls(Parsed)).

%% Its defaults too, where nothing is given.
with_tls(#{transport := tls, tls := undefined} = Parsed) ->
    {ok, Opts} = sockpool_tls:parse(#{}),
    Parsed#{tls := Opts};
with_tls(Parsed) ->
    Parsed.

with_node(#{transport := node, packet := Packet}) when Packet =/= raw, Packet =/= 4 ->
    throw({bad_option, packet, Packet});
with_node(#{transport := node, max_inflight := Max} = Parsed) ->
    Parsed#{packet := 4, max_inflight := case Max of undefined -> ?MAX_INFLIGHT; _ -> Max end};
with_node(Parsed) ->
    Parsed.

all_given(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, Given} -> Given;
        error -> throw({bad_option, opts, not_a_map})
    end.

%% @doc For another node: a map, with nothing in it that is not given.
-spec given(term()) -> {ok, map()} | {error, bad_option()}.
given(Opts) ->
    case sockpool_given:map(Opts, keys()) of
        {ok, #{tls := Tls} = Given} -> {ok, Given#{tls := sockpool_tls:given(Tls)}};
        {ok, _} = Ok -> Ok;
        error -> {error, {bad_option, opts, not_a_map}}
    end.

%% @doc The options, as a map, with nothing in them that must not be in a log.
-spec seal(term()) -> map() | not_a_map.
seal(Opts) ->
    case given(Opts) of
        {ok, Given} -> maps:map(fun sealed/2, Given);
        {error, _} -> not_a_map
    end.

sealed(cookie, Cookie) when Cookie =/= undefined, not is_function(Cookie) ->
    case sockpool_callback:check(Cookie, 0) of
        {ok, Callback} -> Callback;
        error -> sockpool_secret:seal(Cookie)
    end;
sealed(host, Host) ->
    sockpool_host:shown(Host);
sealed(init, Init) ->
    sockpool_callback:shown(Init, 1);
sealed(tls, Tls) when Tls =/= undefined ->
    sockpool_tls:seal(Tls);
sealed(Key, Value) ->
    sockpool_given:shown(Key, Value, keys()).

check_known(Opts) ->
    case maps:to_list(maps:without(keys(), Opts)) of
        [] -> ok;
        %% A password may be in the value: which option was meant is not known.
        [{Key, _Value} | _] -> throw({bad_option, Key, not_shown})
    end.

checked_value(Key, Value, {Check, _Allowed}) ->
    case Check(Value) of
        {ok, Normalised} -> Normalised;
        error -> throw({bad_option, Key, shown(Key, Value)})
    end.

%% What was meant as a cookie, or has a password in it, must not end up in a log.
shown(cookie, _Value) -> not_a_cookie;
shown(host, Value) -> sockpool_host:shown(Value);
shown(init, Value) -> sockpool_callback:shown(Value, 1);
shown(tls, Value) -> shown_tls(sockpool_tls:parse(Value), Value);
shown(_Key, Value) -> Value.

shown_tls({ok, _Opts}, Value) -> sockpool_tls:seal(Value);
shown_tls({error, {bad_option, _, Shown}}, _Value) -> Shown.

check_name(Name, #{name := Name}) -> ok;
check_name(_Name, #{name := Other}) -> throw({bad_option, name, Other}).

check_transport(#{transport := tcp} = Given) ->
    check_required([host, port], Given),
    check_absent([path, tls | node_keys()], Given);
check_transport(#{transport := tls} = Given) ->
    check_required([host, port], Given),
    check_absent([path | node_keys()], Given);
check_transport(#{transport := unix} = Given) ->
    check_required([path], Given),
    check_absent([host, port, bind, tls | node_keys()], Given);
check_transport(#{transport := node} = Given) ->
    check_required([node], Given),
    check_absent([host, path, init], Given).

node_keys() -> [node, cookie, max_inflight].

check_required(Keys, Given) ->
    lists:foreach(fun(Key) ->
                          maps:get(Key, Given) =/= undefined
                              orelse throw({bad_option, Key, undefined})
                  end, Keys).

check_absent(Keys, Given) ->
    lists:foreach(fun(Key) ->
                          Value = maps:get(Key, Given),
                          Value =:= undefined orelse throw({bad_option, Key, shown(Key, Value)})
                  end, Keys).

check_sum(#{size := Size, max_overflow := Overflow})
  when Size + Overflow >= 1, Size + Overflow =< ?MAX_CONNECTIONS ->
    ok;
check_sum(#{size := Size}) ->
    throw({bad_option, size, Size}).

%% Kinds of values: the check and the words for it, made together.

-spec integer(integer(), integer()) -> kind().
integer(Min, Max) ->
    {predicate(fun(Value) -> is_integer(Value) andalso Value >= Min andalso Value =< Max end),
     format("an integer from ~b to ~b", [Min, Max])}.

-spec ms(integer()) -> kind().
ms(Min) ->
    in_unit("milliseconds", integer(Min, ?MAX_MS)).

-spec bytes() -> kind().
bytes() ->
    in_unit("bytes", integer(1, ?MAX_BYTES)).

-spec in_unit(string(), kind()) -> kind().
in_unit(Unit, {Check, Allowed}) ->
    {Check, Allowed ++ " (" ++ Unit ++ ")"}.

-spec one_of([term()]) -> kind().
one_of(Values) ->
    {predicate(fun(Value) -> lists:member(Value, Values) end), "one of " ++ words(Values)}.

-spec or_infinity(kind()) -> kind().
or_infinity(Kind) ->
    or_atom(infinity, Kind).

-spec optional(kind()) -> kind().
optional(Kind) ->
    or_atom(undefined, Kind).

-spec or_atom(atom(), kind()) -> kind().
or_atom(Atom, {Check, Allowed}) ->
    {fun(Value) when Value =:= Atom -> {ok, Value};
        (Value) -> Check(Value)
     end,
     Allowed ++ ", or " ++ atom_to_list(Atom)}.

-spec note(string(), kind()) -> kind().
note(Note, {Check, Allowed}) ->
    {Check, Allowed ++ " (" ++ Note ++ ")"}.

-spec pool_name() -> kind().
pool_name() ->
    {predicate(fun(Value) -> is_atom(Value) andalso Value =/= undefined end),
     "an atom other than undefined, and the name that the pool is started under"}.

-spec packet() -> kind().
packet() ->
    {Check, Allowed} = one_of([raw, 0, 1, 2, 4, line]),
    {fun(Value) when Value =:= 0 -> {ok, raw};
        (Value) -> Check(Value)
     end,
     Allowed}.

-spec ip_address() -> kind().
ip_address() ->
    {predicate(fun inet:is_ip_address/1), "an IP address as a tuple, such as {127,0,0,1}"}.

-spec fun_of_one() -> kind().
fun_of_one() ->
    {fun(Value) -> sockpool_callback:check(Value, 1) end,
     "a fun of one argument, the connection, that returns ok or {error, Reason}, or {Module, Function, "
     "ExtraArgs}, called with the connection before those; for a pool of another node exported there, and no "
     "other fun than fun Module:Function/1"}.

-spec validate() -> kind().
validate() ->
    {CheckMs, AllowedMs} = ms(0),
    {predicate(fun({'after', Ms}) -> CheckMs(Ms) =/= error;
                  (Value) -> Value =:= always orelse Value =:= never
               end),
     "always, never, or {'after', Ms} with Ms " ++ AllowedMs}.

-spec backoff() -> kind().
backoff() ->
    {CheckMs, AllowedMs} = ms(1),
    {predicate(fun({Min, Max}) ->
                       CheckMs(Min) =/= error andalso CheckMs(Max) =/= error
                           andalso Min =< Max;
                  (_) -> false
               end),
     "{MinMs, MaxMs}, each " ++ AllowedMs ++ ", with MinMs not above MaxMs"}.

-spec tls() -> kind().
tls() ->
    {fun(Value) ->
             case sockpool_tls:parse(Value) of
                 {ok, _} = Ok -> Ok;
                 {error, {bad_option, tls, _}} -> error;
                 {error, Bad} -> throw(Bad)
             end
     end,
     "a map, or a list of {Key, Value}, of TLS options"}.

-spec node_name() -> kind().
node_name() ->
    {predicate(fun(Value) -> split_node(Value) =/= error end),
     "the name of a node, an atom of the form name@host of visible ASCII characters"}.

-spec cookie() -> kind().
cookie() ->
    {fun(Value) ->
             case cookie_bytes(Value) of
                 {ok, _} -> {ok, sockpool_secret:seal(Value)};
                 error -> sockpool_callback:check(Value, 0)
             end
     end,
     format("an atom or a binary of 1 to ~b bytes, none of them 0, or a fun without arguments, or "
            "{Module, Function, Args}, that returns one", [?MAX_COOKIE_BYTES])}.

-spec hosts() -> kind().
hosts() ->
    {fun sockpool_host:hosts/1,
     "an IP address, a host name (string, binary or atom), or a non-empty list of those; without a port, "
     "which is an option of its own, and no URL, brackets or zone"}.

-spec path() -> kind().
path() ->
    {fun to_path/1,
     format("a socket's path as a string or binary of 1 to ~b bytes, none of them 0",
            [?MAX_PATH_BYTES])}.

%% Normalising.

to_path(Path) when is_binary(Path), byte_size(Path) >= 1, byte_size(Path) =< ?MAX_PATH_BYTES ->
    case binary:match(Path, <<0>>) of
        nomatch -> {ok, Path};
        _Found -> error
    end;
to_path([Char | _] = Path) when is_integer(Char) ->
    try unicode:characters_to_binary(Path) of
        Binary when is_binary(Binary) -> to_path(Binary);
        _NotUnicode -> error
    catch
        error:badarg -> error
    end;
to_path(_Other) ->
    error.

%% @doc To whom the pool connects, for a log.
-spec server(opts()) -> string().
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

%% @doc The two parts of a node's name.
-spec split_node(term()) -> {Name :: string(), Host :: string()} | error.
split_node(Node) when is_atom(Node) ->
    case string:split(atom_to_list(Node), "@", all) of
        [[_ | _] = Name, [_ | _] = Host] ->
            case sockpool_host:is_name(Name ++ Host, ?MAX_NODE_CHARS) of
                true -> {Name, Host};
                false -> error
            end;
        _ ->
            error
    end;
split_node(_Other) ->
    error.

%% @doc A cookie as the digest takes it.
-spec cookie_bytes(term()) -> {ok, binary()} | error.
cookie_bytes(Cookie) when is_atom(Cookie), Cookie =/= undefined ->
    case unicode:characters_to_binary(atom_to_list(Cookie), unicode, latin1) of
        Bytes when is_binary(Bytes) -> cookie_bytes(Bytes);
        _NotLatin1 -> error
    end;
cookie_bytes(Cookie)
  when is_binary(Cookie), byte_size(Cookie) >= 1, byte_size(Cookie) =< ?MAX_COOKIE_BYTES ->
    case binary:match(Cookie, <<0>>) of
        nomatch -> {ok, Cookie};
        _Found -> error
    end;
cookie_bytes(_Other) ->
    error.

-spec predicate(fun((term()) -> boolean())) -> check().
predicate(Holds) ->
    fun(Value) ->
            case Holds(Value) of
                true -> {ok, Value};
                false -> error
            end
    end.

%% Words.

-spec words([term()]) -> string().
words(Terms) ->
    lists:append(lists:join(", ", [format("~0tp", [Term]) || Term <- Terms])).

-spec format(io:format(), [term()]) -> string().
format(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).
