%%% @private
%%% The options of sockpool_node, in one table: defaults, checks, and words for users.
-module(sockpool_node_opts).

-export([parse/1, format_error/1, seal/1, is_cookie/1]).
-export_type([opts/0, bad_option/0]).

-type opts() :: #{name := node(),
                  cookie := sockpool_callback:callback() | undefined,
                  listen := inet:ip_address() | undefined,
                  metrics := {inet:ip_address(), inet:port_number()} | file:filename() | undefined,
                  tick_time := 1..86400 | undefined,
                  pools := #{atom() => map()},
                  program := file:filename(),
                  start_timeout := 1..4294967295,
                  stop_timeout := 1..4294967295}.
%% Complete and normalised. Pools' options are as they were given: checked, but not completed; a cookie is
%% in a fun.

-type bad_option() :: {bad_option, Key :: term(), Value :: term()}.
%% The key is `{pools, Pool, Key}' for an option of a pool, where Key may be `{tls, Key}'.

-type row() :: {Key :: atom(), Default :: term(),
                fun((term()) -> {ok, Normalised :: term()} | error), Allowed :: string()}.

-define(MAX_MS, 4294967295).

-spec parse(term()) -> {ok, opts()} | {error, bad_option()}.
parse(Opts) ->
    case given(Opts) of
        {ok, Given} ->
            try
                {ok, checked(Given)}
            catch
                throw:{bad_option, _, _} = Bad -> {error, Bad}
            end;
        error ->
            {error, {bad_option, opts, not_a_map}}
    end.

given(Opts) -> sockpool_given:map(Opts, keys()).

keys() -> [Key || {Key, _Default, _Check, _Allowed} <- rows()].

checked(Opts) ->
    case maps:to_list(maps:without(keys(), Opts)) of
        [] -> ok;
        [{Unknown, _Value} | _] -> throw({bad_option, Unknown, not_shown})
    end,
    maps:from_list([checked_row(Row, Opts) || Row <- rows()]).

checked_row({Key, Default, Check, _Allowed}, Opts) ->
    Value = maps:get(Key, Opts, Default),
    case Check(Value) of
        {ok, Normalised} -> {Key, Normalised};
        error -> throw({bad_option, Key, shown(Key, Value)})
    end.

%% It may well be the cookie, in another type.
shown(cookie, _Value) -> not_shown;
%% Options of pools, in another shape.
shown(pools, _Value) -> not_shown;
shown(_Key, Value) -> Value.

-spec rows() -> [row()].
rows() ->
    Ms = "an integer from 1 to 4294967295 (milliseconds)",
    [{name, undefined, fun name/1,
      "an atom NAME@HOST, or NAME where HOST is that of this node (required)"},
     {cookie, undefined, fun cookie/1,
      "an atom of 1 to 255 characters, none of them a control character; a fun without arguments, or "
      "{Module, Function, Args}, that returns one; or undefined, for the one that this node uses with that name"},
     {listen, undefined, fun address/1, "an IP address as a tuple, such as {127,0,0,1}, or undefined"},
     {metrics, undefined, fun metrics/1,
      "{Address, Port}, such as {{127,0,0,1}, 9464}, the absolute path of a Unix socket as a string or binary, or undefined"},
     {tick_time, undefined, integer_or_undefined(86400),
      "an integer from 1 to 86400 (seconds), or undefined, for this node's net_ticktime"},
     {pools, #{}, fun pools/1, "a map, or a list of {Name, Options}, of pools' options by their names"},
     {program, undefined, fun program/1, "a file's path as a string or binary, or undefined"},
     {start_timeout, 10000, integer(?MAX_MS), Ms},
     {stop_timeout, 10000, integer(?MAX_MS), Ms}].

%% @doc The options, as a map, with nothing in them that must not be in a log.
-spec seal(term()) -> map() | not_a_map.
seal(Opts) ->
    case given(Opts) of
        {ok, Given} -> maps:map(fun sealed/2, Given);
        error -> not_a_map
    end.

sealed(cookie, Cookie) -> maps:get(cookie, sockpool_opts:seal(#{cookie => Cookie}));
sealed(pools, Pools) ->
    case sockpool_given:map(Pools, []) of
        {ok, Given} -> sealed_pools(Given);
        error -> not_shown
    end;
sealed(Key, Value) ->
    sockpool_given:shown(Key, Value, keys()).

sealed_pools(Pools) ->
    maps:map(fun(_Name, Opts) -> sockpool_opts:seal(Opts) end, Pools).

%% @doc Says which option is wrong, what its value is, and what is allowed.
-spec format_error(bad_option()) -> string().
format_error({bad_option, opts, Value}) ->
    format("options: ~0tP is not allowed; it must be a map, or a list of {Key, Value}, of options", [Value, 30]);
format_error({bad_option, {pools, Name, init}, Value}) ->
    not_in_c(Name, "init", Value, lists:keyfind(init, 1, sockpool_option_table:pool()));
format_error({bad_option, {pools, Name, {tls, password}}, Value}) ->
    not_in_c(Name, "tls option password", Value, lists:keyfind(password, 1, sockpool_option_table:tls()));
format_error({bad_option, {pools, Name, Key}, Value}) ->
    format("pool ~0tp: ~ts", [Name, sockpool_opts:format_error({bad_option, Key, Value})]);
format_error({bad_option, Key, Value}) ->
    case lists:keyfind(Key, 1, rows()) of
        {Key, _Default, _Check, Allowed} ->
            format("option ~0tp: ~0tP is not allowed; it must be ~ts", [Key, Value, 30, Allowed]);
        false ->
            Keys = [atom_to_list(Known) || Known <- keys()],
            format("option ~0tP does not exist; the options are ~ts",
                   [Key, 30, lists:append(lists:join(", ", Keys))])
    end.

not_in_c(Name, What, Value, Row) ->
    format("pool ~0tp: option ~ts: ~0tP is not allowed; it must be ~ts",
           [Name, What, Value, 30, sockpool_option_table:allowed(daemon, Row)]).

%%% Checks.

name(undefined) ->
    error;
name(Name) when is_atom(Name) ->
    case string:split(atom_to_list(Name), "@", all) of
        [[_ | _], [_ | _]] -> {ok, Name};
        [[_ | _] = Short] -> {ok, list_to_atom(Short ++ "@" ++ own_host())};
        _ -> error
    end;
name(_Other) ->
    error.

own_host() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Host.

cookie(undefined) ->
    {ok, undefined};
cookie(Cookie) ->
    case is_cookie(Cookie) of
        true -> {ok, sockpool_secret:seal(Cookie)};
        false -> sockpool_callback:check(Cookie, 0)
    end.

%% @doc What the daemon and the digest take.
-spec is_cookie(term()) -> boolean().
is_cookie(Cookie) when is_atom(Cookie) ->
    Text = atom_to_list(Cookie),
    Text =/= [] andalso lists:all(fun(C) -> C >= $\s andalso C =< 255 andalso C =/= 127 end, Text);
is_cookie(_Other) ->
    false.

address(undefined) -> {ok, undefined};
address(Address) ->
    case inet:is_ip_address(Address) of
        true -> {ok, Address};
        false -> error
    end.

metrics(undefined) -> {ok, undefined};
metrics({Address, Port}) when is_integer(Port), Port >= 0, Port =< 65535 ->
    case inet:is_ip_address(Address) of
        true -> {ok, {Address, Port}};
        false -> error
    end;
metrics(Path) when is_list(Path); is_binary(Path) ->
    case program(Path) of
        {ok, [$/ | _]} = Ok -> Ok;
        _ -> error
    end;
metrics(_Other) -> error.

integer(Max) ->
    fun(Value) when is_integer(Value), Value >= 1, Value =< Max -> {ok, Value};
       (_Other) -> error
    end.

integer_or_undefined(Max) ->
    Check = integer(Max),
    fun(undefined) -> {ok, undefined};
       (Value) -> Check(Value)
    end.

program(undefined) ->
    {ok, filename:join(code:priv_dir(sockpool), "sockpool_node")};
program(Path) ->
    try unicode:characters_to_list(Path) of
        [_ | _] = List -> program_path(List);
        _ -> error
    catch
        error:badarg -> error
    end.

program_path(Path) ->
    case lists:member(0, Path) of
        true -> error;
        false -> {ok, Path}
    end.

pools(Pools) ->
    case sockpool_given:map(Pools, []) of
        {ok, Given} ->
            ok = maps:foreach(fun check_pool/2, Given),
            {ok, sealed_pools(Given)};
        error ->
            error
    end.

check_pool(Name, Opts) ->
    case sockpool_opts:parse(Name, Opts) of
        {ok, Parsed} -> check_possible(Name, Parsed);
        {error, {bad_option, Key, Value}} -> throw({bad_option, {pools, Name, Key}, Value})
    end.

%% In C.
check_possible(Name, #{init := Init}) when Init =/= undefined ->
    throw({bad_option, {pools, Name, init}, Init});
check_possible(Name, #{tls := #{password := Password}}) when Password =/= undefined ->
    throw({bad_option, {pools, Name, {tls, password}}, Password});
check_possible(_Name, _Parsed) ->
    ok.

format(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).
