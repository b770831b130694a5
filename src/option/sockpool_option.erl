%%% @private
%%% A map of options against a table of them (sockpool_option_table): which is wrong, what the others are when they
%%% are normalised, and what may be shown of any. The options of TLS whole, as they are the value of one.
-module(sockpool_option).

-export([keys/1, check/2, checked/2, sealed/2, shown/3, explain/3]).
-export([tls/1, tls_given/1, tls_sealed/1]).
-export([split_node/1, cookie_bytes/1]).

-type row() :: sockpool_option_table:row().
-type kind() :: sockpool_option_table:kind().

-define(MAX_NODE_CHARS, 254).

-spec keys([row()]) -> [atom()].
keys(Rows) -> [Key || {Key, _Default, _Kind, _Rules} <- Rows].

%% @doc All options, with their defaults where none is given. Throws `{wrong, Key, Shown}' for the first that is
%% wrong or unknown.
-spec checked([row()], #{term() => term()}) -> #{atom() => term()}.
checked(Rows, Given) ->
    case maps:keys(maps:without(keys(Rows), Given)) of
        [] -> maps:from_list([{Key, checked(Rows, Key, Kind, maps:get(Key, Given, Default))}
                              || {Key, Default, Kind, _Rules} <- Rows]);
        [Unknown | _] -> throw({wrong, Unknown, not_shown})
    end.

checked(Rows, Key, Kind, Value) ->
    case check(Kind, Value) of
        {ok, Normalised} -> Normalised;
        error -> throw({wrong, Key, shown(Rows, Key, Value)})
    end.

%% @doc The options as they are, but for what must not be in a log.
-spec sealed([row()], #{term() => term()}) -> #{term() => term()}.
sealed(Rows, Given) ->
    maps:map(fun(Key, Value) ->
                     case lists:keyfind(Key, 1, Rows) of
                         {_, _, {optional, cookie}, _} -> sealed_cookie(Value);
                         {_, _, {optional, tls}, _} when Value =/= undefined -> tls_sealed(Value);
                         {_, _, {optional, health}, _} when Value =/= undefined -> sealed_health(check(health, Value), Value);
                         _ -> shown(Rows, Key, Value)
                     end
             end, Given).

sealed_cookie(Cookie) when Cookie =:= undefined; is_function(Cookie) -> Cookie;
sealed_cookie(Cookie) ->
    case sockpool_callback:check(Cookie, 0) of
        {ok, Callback} -> Callback;
        error -> sockpool_secret:seal(Cookie)
    end.

sealed_health({ok, How}, _Value) -> sockpool_health:sealed(How);
sealed_health(error, Value) -> shown(health, Value).

%% @doc Of a value, for an error: what was meant as a secret, or has one in it, must not end up in a log. Of an unknown
%% option nothing: it is not known which was meant.
-spec shown([row()], term(), term()) -> term().
shown(Rows, Key, Value) ->
    case lists:keyfind(Key, 1, Rows) of
        {_, _, {optional, Kind}, _} when Value =/= undefined -> shown(Kind, Value);
        {_, _, validate, _} -> sockpool_callback:shown(Value, 1);
        {_, _, _Kind, _} -> Value;
        false -> not_shown
    end.

shown(cookie, _Value) -> not_a_cookie;
shown(hosts, Value) -> sockpool_host:shown(Value);
shown(worker, Value) ->
    case check(worker, Value) of
        {ok, Callback} -> Callback;
        error -> not_a_start_function
    end;
shown({callback, Arity, _}, Value) -> sockpool_callback:shown(Value, Arity);
shown(password, Value) ->
    case sockpool_callback:check(Value, 0) of
        {ok, Callback} -> Callback;
        error -> not_a_fun
    end;
shown(health, Value) ->
    case check(health, Value) of
        {ok, How} -> maps:without([send, expect], How);
        error when is_atom(Value); is_number(Value) -> Value;
        error -> not_a_check
    end;
shown(tls, Value) -> shown_tls(tls(Value), Value);
shown(_Kind, Value) -> Value.

shown_tls({ok, _Opts}, Value) -> tls_sealed(Value);
shown_tls({error, {bad_option, _, Shown}}, _Value) -> Shown.

%% @doc In words: what is wrong with the value of an option, which is shown as shown/3 says.
-spec explain([row()], Key :: term(), Value :: term()) -> string().
explain(Rows, Key, Value) ->
    case lists:keyfind(Key, 1, Rows) of
        {Key, undefined, _Kind, _Rules} = Row when Value =:= undefined ->
            format("option ~0tp is not given; it must be ~ts", [Key, allowed(Row)]);
        {Key, _Default, Kind, _Rules} = Row ->
            Says = case fits(Kind, Value) of
                       true -> "option ~0tp: ~0tP is not allowed here, or not with the other options; in general it is ~ts";
                       false -> "option ~0tp: ~0tP is not allowed; it must be ~ts"
                   end,
            format(Says, [Key, Value, 30, allowed(Row)]);
        false ->
            Keys = lists:join(", ", [atom_to_list(Known) || Known <- keys(Rows)]),
            format("option ~0tP does not exist; the options are ~ts", [Key, 30, lists:append(Keys)])
    end.

allowed(Row) -> sockpool_option_table:allowed(vm, Row).

%% What is shown there is not what was given.
fits({optional, cookie}, not_a_cookie) -> false;
fits({optional, hosts}, not_shown) -> false;
fits(Kind, Value) -> try check(Kind, Value) =/= error catch throw:{bad_option, _, _} -> false end.

%%% Kinds of values.

%% @doc Throws what is wrong among the options of TLS.
-spec check(kind(), term()) -> {ok, Normalised :: term()} | error.
check({optional, _Kind}, undefined) -> {ok, undefined};
check({optional, Kind}, Value) -> check(Kind, Value);
check({or_infinity, _Kind}, infinity) -> {ok, infinity};
check({or_infinity, Kind}, Value) -> check(Kind, Value);
check({one_of, Atoms}, Value) -> the_same(Value, lists:member(Value, Atoms));
check({integer, _, _} = Kind, Value) -> the_same(Value, is_number_of(Kind, Value));
check({ms, _} = Kind, Value) -> the_same(Value, is_number_of(Kind, Value));
check(bytes, Value) -> the_same(Value, is_number_of(bytes, Value));
check(pool_name, Value) -> the_same(Value, is_atom(Value) andalso Value =/= undefined);
check(packet, Value) -> sockpool_framing:check(Value);
check(ip_address, Value) -> the_same(Value, inet:is_ip_address(Value));
check({callback, Arity, _}, Value) -> sockpool_callback:check(Value, Arity);
check(password, Value) -> sockpool_callback:check(Value, 0);
check(validate, {'after', Ms} = Value) -> the_same(Value, is_number_of(validate, Ms));
check(validate, Value) when Value =:= always; Value =:= never -> {ok, Value};
check(validate, Value) -> sockpool_callback:check(Value, 1);
check(worker, {Module, Arg}) when is_atom(Module) -> sockpool_callback:check({Module, start_link, [Arg]}, 0);
check(worker, Value) -> sockpool_callback:check(Value, 0);
check(backoff, {Min, Max} = Value) ->
    the_same(Value, is_number_of(backoff, Min) andalso is_number_of(backoff, Max) andalso Min =< Max);
check(start, {await, Count, Ms} = Value) ->
    the_same(Value, (Count =:= size orelse is_number_of(start, Count)) andalso is_number_of({ms, 0}, Ms));
check(start, Value) -> the_same(Value, Value =:= async);
check(lifetime, {Min, Max} = Value) ->
    the_same(Value, is_number_of(lifetime, Min) andalso is_number_of(lifetime, Max) andalso Min =< Max);
check(lifetime, Value) -> the_same(Value, is_number_of(lifetime, Value));
check(health, Value) -> sockpool_health:check(Value);
check(keepalive, Value) when is_boolean(Value) -> {ok, Value};
check(keepalive, Value) -> keepalive(Value);
check(node_name, Value) -> the_same(Value, split_node(Value) =/= error);
check(hosts, Value) -> sockpool_host:hosts(Value);
check(path, Value) -> limited(path, text(Value));
check(cookie, Value) ->
    case cookie_bytes(Value) of
        {ok, _} -> {ok, sockpool_secret:seal(Value)};
        error -> sockpool_callback:check(Value, 0)
    end;
check(tls, Value) ->
    case tls(Value) of
        {ok, _} = Ok -> Ok;
        {error, {bad_option, tls, _}} -> error;
        {error, Bad} -> throw(Bad)
    end;
check({text, _}, Value) -> text(Value);
check(server_name, Value) -> server_name(limited(server_name, text(Value)));
check(certs, Value) -> certs(Value);
check(versions, Value) -> versions(Value);
check(alpn, Value) -> alpn(Value);
check(_Kind, _Value) -> error.

the_same(Value, true) -> {ok, Value};
the_same(_Value, false) -> error.

is_number_of(Kind, Value) ->
    {Min, Max} = sockpool_option_table:bounds(Kind),
    is_integer(Value) andalso Value >= Min andalso Value =< Max.

%% @doc The options of TLS, a map or a list of `{Key, Value}', with their defaults.
-spec tls(term()) -> {ok, #{atom() => term()}} | {error, {bad_option, {tls, Key :: term()} | tls, term()}}.
tls(Opts) ->
    case sockpool_given:map(Opts, keys(sockpool_option_table:tls())) of
        {ok, Given} ->
            try
                Parsed = checked(sockpool_option_table:tls(), Given),
                ok = check_files(Parsed),
                {ok, Parsed}
            catch
                throw:{wrong, Key, Value} -> {error, {bad_option, {tls, Key}, Value}}
            end;
        error ->
            %% Not what it is instead: a password may be in it.
            {error, {bad_option, tls, not_a_list_of_options}}
    end.

check_files(#{keyfile := Key, certfile := undefined}) when Key =/= undefined ->
    throw({wrong, certfile, undefined});
check_files(#{cacertfile := File, cacerts := Certs}) when File =/= undefined, Certs =/= undefined ->
    throw({wrong, cacerts, Certs});
check_files(_Opts) ->
    ok.

%% @doc As a map, with nothing in it that is not given. What are no options stays what it is.
-spec tls_given(term()) -> term().
tls_given(Opts) ->
    case sockpool_given:map(Opts, keys(sockpool_option_table:tls())) of
        {ok, Given} -> Given;
        error -> Opts
    end.

%% @doc The options, which may be wrong, without a password in clear: as wrong as they were.
-spec tls_sealed(term()) -> term().
tls_sealed(Opts) ->
    case sockpool_given:map(Opts, keys(sockpool_option_table:tls())) of
        {ok, Given} -> sealed(sockpool_option_table:tls(), Given);
        error -> not_a_list_of_options
    end.

%% Those that are not given are the system's.
keepalive(Given) ->
    Most = #{idle => 32767, interval => 32767, count => 127},
    case sockpool_given:map(Given, maps:keys(Most)) of
        {ok, Times} ->
            the_same(Times, lists:all(fun({Key, Value}) ->
                                              is_integer(Value) andalso Value >= 1 andalso Value =< maps:get(Key, Most, 0)
                                      end, maps:to_list(Times)));
        error ->
            error
    end.

%% As UTF-8, but a binary as it is; C would end it at a zero.
text(Text) ->
    case to_utf8(Text) of
        <<_, _/binary>> = Bytes -> without_zeros(Bytes);
        _ -> error
    end.

to_utf8(Binary) when is_binary(Binary) ->
    Binary;
to_utf8(List) when is_list(List) ->
    case lists:all(fun is_integer/1, proper(List)) of
        true -> unicode:characters_to_binary(List);
        false -> error
    end;
to_utf8(_Other) ->
    error.

without_zeros(Bytes) ->
    case binary:match(Bytes, <<0>>) of
        nomatch -> {ok, Bytes};
        _Found -> error
    end.

limited(Kind, {ok, Bytes}) ->
    {Min, Max} = sockpool_option_table:bounds(Kind),
    the_same(Bytes, byte_size(Bytes) >= Min andalso byte_size(Bytes) =< Max);
limited(_Kind, error) ->
    error.

%% One that begins with a dot is any host below that domain, to OpenSSL.
server_name({ok, <<$., _/binary>>}) ->
    error;
server_name({ok, Name}) ->
    the_same(Name, << <<C>> || <<C>> <= Name, C > $\s, C =< $~ >> =:= Name);
server_name(error) ->
    error.

%% None at all would be the system's: whoever computes a list wants no more than what is in it.
certs([_ | _] = Certs) ->
    Ders = [der(Cert) || Cert <- proper(Certs)],
    the_same(Ders, lists:all(fun(Der) -> is_binary(Der) andalso Der =/= <<>> end, Ders));
certs(_Other) ->
    error.

der({cert, Der, _Decoded}) -> Der;
der(Der) -> Der.

proper(List) ->
    try length(List) of
        _ -> List
    catch
        error:badarg -> [improper]
    end.

versions(Versions) when is_list(Versions) ->
    case lists:usort(proper(Versions)) of
        [] -> error;
        Wanted -> the_same(Wanted, Wanted -- ['tlsv1.2', 'tlsv1.3'] =:= [])
    end;
versions(_Other) ->
    error.

alpn([]) ->
    {ok, []};
alpn([Name | Rest]) ->
    case {to_utf8(Name), alpn(Rest)} of
        {<<_, _/binary>> = Binary, {ok, Names}} ->
            case limited(alpn, {ok, Binary}) of
                {ok, _} -> {ok, [Binary | Names]};
                error -> error
            end;
        _ ->
            error
    end;
alpn(_Other) ->
    error.

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
cookie_bytes(Cookie) when is_binary(Cookie) ->
    limited(cookie, without_zeros(Cookie));
cookie_bytes(_Other) ->
    error.

format(Format, Args) -> lists:flatten(io_lib:format(Format, Args)).
