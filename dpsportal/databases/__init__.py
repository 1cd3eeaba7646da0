"""Django's database backends where ours differ from them: `ENGINE` names a package in here."""
