%%% format_error/1: each documented reason, with whatever in it, is a text, and does not contradict itself.
-module(sockpool_error_tests).

-include_lib("eunit/include/eunit.hrl").

-define(REASONS, 3000).

%% Of every form that is documented, and of none.
forms() ->
    [fun(A, _) -> A end,
     fun(A, _) -> {unavailable, A} end, fun(A, _) -> {nodedown, A} end, fun(A, _) -> {bad_request, A} end,
     fun(A, _) -> {tls, A} end, fun(A, B) -> {tls, {A, B}} end, fun(A, _) -> {tls, {alert, A}} end,
     fun(A, _) -> {node, A} end, fun(A, _) -> {no_such_node, A} end, fun(A, _) -> {epmd, A} end,
     fun(A, _) -> {cookie, A} end, fun(A, _) -> {init, A} end, fun(A, _) -> {spawn, A} end,
     fun(A, B) -> {exception, A, B, []} end, fun(A, _) -> {already_started, A} end,
     fun(A, B) -> {bad_option, A, B} end, fun(A, B) -> {bad_option, {tls, A}, B} end,
     fun(A, B) -> {bad_argument, A, B} end, fun(A, B) -> {unavailable, {tls, {A, B}}} end].

term(0) -> pick(leaves());
term(Depth) ->
    case rand:uniform(4) of
        1 -> [term(Depth - 1) || _ <- lists:seq(1, rand:uniform(3))];
        2 -> list_to_tuple([term(Depth - 1) || _ <- lists:seq(1, rand:uniform(3))]);
        3 -> #{term(0) => term(Depth - 1)};
        4 -> term(0)
    end.

pick(List) -> lists:nth(rand:uniform(length(List)), List).

leaves() ->
    [undefined, infinity, always, true, tcp, node, tls, 0, 1, -1, 7000, 1 bsl 80, 1.5, "text", [1114112], [a | b], <<"b">>,
     <<255, 0>>, <<1:3>>, [], {}, #{}, self(), make_ref(), fun() -> ok end, 'größe', {127, 0, 0, 1}, not_a_cookie]
        ++ keys().

%% What words are made about.
keys() ->
    [transport, host, port, path, size, validate, backoff, init, cookie, tls, opts, name, certfile, cacerts, password,
     versions, alpn, pool, local_pool, timeout, length, data, pid, conn, node_conn, destination, args, badfun].

every_reason_is_a_text_test() ->
    _ = rand:seed(exsss, Seed = erlang:unique_integer()),
    [begin
         Reason = (pick(forms()))(term(2), term(2)),
         ?assertMatch({Text, _, _} when is_binary(Text) andalso Text =/= <<>>,
                      {unicode:characters_to_binary(sockpool:format_error(Reason)), Reason, Seed}),
         ?assertMatch({[_ | _], _, _}, {sockpool_node:format_error(Reason), Reason, Seed})
     end || _ <- lists:seq(1, ?REASONS)].

atoms_test_() ->
    [?_assertMatch(<<_, _/binary>>, unicode:characters_to_binary(sockpool:format_error(Reason)))
     || Reason <- [timeout, full, closed, not_found, draining, busy, not_owner, system_limit, enomem, emsgsize,
                   bad_reply, noproc, unread_bytes, nxdomain, econnreset]].

%% A value that is right by itself is not called wrong.
not_contradicting_test_() ->
    [?_assertEqual({nomatch, Key}, {re:run(Words, "is not allowed; it must"), Key})
     || {Key, Value} <- [{transport, tcp}, {port, undefined}, {host, undefined}, {packet, 4}, {size, 10}, {init, undefined},
                         {tls, #{}}, {{tls, certfile}, undefined}, {{tls, cacerts}, [<<"der">>]}],
        Words <- [sockpool:format_error({bad_option, Key, Value})]].

wrong_is_wrong_test_() ->
    [?_assertMatch({match, _}, re:run(sockpool:format_error({bad_option, Key, Value}), "is not allowed; it must"))
     || {Key, Value} <- [{transport, sctp}, {port, 0}, {cookie, not_a_cookie}, {tls, #{verify => maybe_so}},
                         {{tls, password}, not_a_fun}, {{tls, verify}, x}]].
